package sqs_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/sqs"
)

// witness answers everything, and remembers who asked for what last.
type witness struct{ host, signature string }

func (w *witness) Do(request *http.Request) (*http.Response, error) {
	w.host, w.signature = request.URL.Host, request.Header.Get("Authorization")
	return answered(request, `{}`), nil
}

// Region and credentials are those of the AWS environment, as every AWS tool finds them,
// and the config's own go first.
func TestAWSEnvironment(t *testing.T) {
	for name, test := range map[string]struct {
		environment         map[string]string
		credentials, shared string // files
		config              sqs.Config
		host, signature     string
		err                 string
	}{
		"environment": {
			environment: map[string]string{"AWS_ACCESS_KEY_ID": "ENVIRONMENT", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-central-1"},
			host:        "sqs.eu-central-1.amazonaws.com", signature: "Credential=ENVIRONMENT/",
		},
		"shared files": {
			credentials: "[default]\naws_access_key_id = FILE\naws_secret_access_key = secret\n", shared: "[default]\nregion = eu-north-1\n",
			host: "sqs.eu-north-1.amazonaws.com", signature: "Credential=FILE/",
		},
		"a profile of the shared files": {
			environment: map[string]string{"AWS_PROFILE": "shop"},
			credentials: "[shop]\naws_access_key_id = SHOP\naws_secret_access_key = secret\n", shared: "[profile shop]\nregion = eu-south-1\n",
			host: "sqs.eu-south-1.amazonaws.com", signature: "Credential=SHOP/",
		},
		"the config's region": {
			environment: map[string]string{"AWS_ACCESS_KEY_ID": "ENVIRONMENT", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-central-1"},
			config:      sqs.Config{Region: "eu-west-1"}, host: "sqs.eu-west-1.amazonaws.com", signature: "/eu-west-1/sqs/",
		},
		"the config's endpoint": {
			environment: map[string]string{"AWS_ACCESS_KEY_ID": "ENVIRONMENT", "AWS_SECRET_ACCESS_KEY": "secret"},
			config:      sqs.Config{Endpoint: "http://private:9324"}, host: "private:9324", signature: "Credential=ENVIRONMENT/",
		},
		"no region": {
			environment: map[string]string{"AWS_ACCESS_KEY_ID": "ENVIRONMENT", "AWS_SECRET_ACCESS_KEY": "secret"},
			err:         "set region, or AWS_REGION",
		},
		"no credentials": {
			environment: map[string]string{"AWS_REGION": "eu-central-1"}, err: "that AWS credentials are configured: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
		},
		"no credentials for an emulator": {
			config: sqs.Config{Endpoint: "http://private:9324"}, err: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment; an emulator takes any value",
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			for name, content := range map[string]string{"AWS_SHARED_CREDENTIALS_FILE": test.credentials, "AWS_CONFIG_FILE": test.shared} {
				file := filepath.Join(folder, name)
				require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
				t.Setenv(name, file)
			}
			for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"} {
				t.Setenv(name, test.environment[name])
			}
			t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			var service witness
			test.config.HTTPClient, test.config.Logger = &service, quiet
			broker, err := sqs.Open(t.Context(), test.config)
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
			require.NoError(t, broker.Close())
			require.Equal(t, test.host, service.host)
			require.Contains(t, service.signature, test.signature)
		})
	}
}

// What the SDK says of its search for credentials goes where Hapax's own log goes.
func TestSDKLogsWithTheService(t *testing.T) {
	metadata := httptest.NewServer(http.NotFoundHandler())
	defer metadata.Close()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.URL)
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	_, err := sqs.Open(t.Context(), sqs.Config{Endpoint: "http://private:9324", HTTPClient: &witness{}, Logger: logger})
	require.Error(t, err)
	require.Contains(t, log.String(), `"level":"DEBUG","msg":"aws sdk: `)
}
