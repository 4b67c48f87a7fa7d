package scaffold

import (
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/adapters/sqs"
)

// decode reads one document; a key that is there twice, and one that the target
// does not have where strict, is an error.
func decode(t *testing.T, text string, target any, options ...yaml.DecodeOption) {
	t.Helper()
	require.NoError(t, yaml.NewDecoder(strings.NewReader(text), options...).Decode(target))
}

// object is a Kubernetes object, as far as it is looked at.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name        string            `yaml:"name"`
		Labels      map[string]string `yaml:"labels"`
		Annotations map[string]string `yaml:"annotations"`
	} `yaml:"metadata"`
	Spec       map[string]any    `yaml:"spec"`
	Data       map[string]string `yaml:"data"`
	StringData map[string]string `yaml:"stringData"`
	Type       string            `yaml:"type"`
	Resources  []string          `yaml:"resources"`
}

func objects(t *testing.T, text string) (found []object) {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(text), yaml.Strict())
	for {
		var one object
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			return found
		}
		require.NoError(t, err, text)
		require.NotEmpty(t, one.APIVersion)
		require.NotEmpty(t, one.Kind)
		found = append(found, one)
	}
}

// at walks into nested maps and lists.
func at(t *testing.T, value any, path ...any) any {
	t.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			object, ok := value.(map[string]any)
			require.True(t, ok, "%v: %v is no object", path, value)
			require.Contains(t, object, step, "%v", path)
			value = object[step]
		case int:
			list, ok := value.([]any)
			require.True(t, ok && step < len(list), "%v: %v", path, value)
			value = list[step]
		}
	}
	return value
}

func TestTheKubernetesManifests(t *testing.T) {
	everyService(t, func(t *testing.T, o Options, files map[string]string) {
		variables := regexp.MustCompile(`\$\{([A-Z_]+)`)
		secret := objects(t, files["deploy/secret.example.yaml"])[0]
		require.Equal(t, "Secret", secret.Kind)
		for _, named := range variables.FindAllStringSubmatch(files["deploy/configmap.yaml"], -1) {
			if named[1] != "NAME" {
				require.Contains(t, secret.StringData, named[1], "the Secret has what the ConfigMap refers to")
			}
		}
		for name := range secret.StringData {
			require.False(t, strings.HasPrefix(name, "HAPAX_"), name)
		}

		made := objects(t, files["deploy/deployment.yaml"])
		deployment := made[0]
		require.Equal(t, "apps/v1 Deployment "+o.Name, deployment.APIVersion+" "+deployment.Kind+" "+deployment.Metadata.Name)
		pod := at(t, deployment.Spec, "template", "spec")
		require.Equal(t, at(t, deployment.Spec, "selector", "matchLabels"), at(t, deployment.Spec, "template", "metadata", "labels"))
		require.Equal(t, true, at(t, pod, "securityContext", "runAsNonRoot"))
		require.Equal(t, false, at(t, pod, "enableServiceLinks"), "a Service called hapax would set HAPAX_ variables")
		require.Greater(t, at(t, pod, "terminationGracePeriodSeconds"), uint64(2*(30+5)), "longer than handlers and relay may take")
		container := at(t, pod, "containers", 0)
		require.Equal(t, "/healthz", at(t, container, "livenessProbe", "httpGet", "path"))
		require.Equal(t, "/readyz", at(t, container, "readinessProbe", "httpGet", "path"))
		require.Equal(t, "/healthz", at(t, container, "startupProbe", "httpGet", "path"))
		port := at(t, container, "ports", 0)
		require.Equal(t, at(t, port, "name"), at(t, container, "readinessProbe", "httpGet", "port"))
		require.EqualValues(t, 8086, at(t, port, "containerPort"))
		require.Equal(t, o.Name, at(t, container, "envFrom", 0, "secretRef", "name"))
		require.Equal(t, "/etc/hapax/hapax.yaml", at(t, container, "env", 0, "value"))
		require.Equal(t, true, at(t, container, "securityContext", "readOnlyRootFilesystem"))
		require.Equal(t, o.Name, at(t, pod, "volumes", 0, "configMap", "name"))
		if o.SQL != "none" {
			require.Equal(t, "/usr/local/bin/migrate", at(t, pod, "initContainers", 0, "command", 0))
		}
		file := o.Broker == embedded || o.SQL == "sqlite"
		require.Equal(t, file, len(made) == 2, "a file needs a volume that lasts")
		if file {
			require.Equal(t, "PersistentVolumeClaim", made[1].Kind)
			require.Equal(t, made[1].Metadata.Name, at(t, pod, "volumes", 1, "persistentVolumeClaim", "claimName"))
			require.EqualValues(t, 1, deployment.Spec["replicas"])
			require.Equal(t, "Recreate", at(t, deployment.Spec, "strategy", "type"))
		}
		for _, resource := range objects(t, files["deploy/kustomization.yaml"])[0].Resources {
			require.Contains(t, files, "deploy/"+resource)
		}
	})
}

// Names in the autoscalers are those that the adapters use.
func TestTheAutoscalers(t *testing.T) {
	topic, err := kafka.TopicName("orders")
	require.NoError(t, err)
	standard, err := (&sqs.Config{}).QueueName("orders")
	require.NoError(t, err)
	fifo, err := (&sqs.Config{FIFO: true}).QueueName("orders")
	require.NoError(t, err)
	queue := "https://sqs.eu-west-1.amazonaws.com/123456789012/"
	expected := map[string]map[string]any{
		"kafka":    {"type": "kafka", "topic": topic, "consumerGroup": "shop.orders", "offsetResetPolicy": "earliest"},
		"rabbitmq": {"type": "rabbitmq", "queueName": "orders_shop.orders", "mode": "QueueLength", "protocol": "amqp"},
		"redis":    {"type": "redis-streams", "stream": "orders", "consumerGroup": "shop.orders"},
		"sqs":      {"type": "aws-sqs-queue", "queueURL": queue + standard, "awsRegion": "eu-west-1"},
		"sqs-fifo": {"type": "aws-sqs-queue", "queueURL": queue + fifo, "awsRegion": "eu-west-1"},
	}
	everyService(t, func(t *testing.T, o Options, files map[string]string) {
		for _, broker := range Brokers() {
			if broker == embedded {
				continue // one process
			}
			made := objects(t, files["deploy/keda/"+broker+".yaml"])
			scaler := made[0]
			require.Equal(t, "keda.sh/v1alpha1 ScaledObject", scaler.APIVersion+" "+scaler.Kind)
			require.Equal(t, o.Name, at(t, scaler.Spec, "scaleTargetRef", "name"))
			trigger := at(t, scaler.Spec, "triggers", 0)
			metadata := at(t, trigger, "metadata").(map[string]any)
			metadata["type"] = at(t, trigger, "type")
			require.Subset(t, metadata, expected[broker])
			for key, value := range metadata {
				require.IsType(t, "", value, "KEDA takes text only: %s", key)
			}
			if reference, ok := trigger.(map[string]any)["authenticationRef"]; ok {
				require.Equal(t, "TriggerAuthentication", made[1].Kind)
				require.Equal(t, made[1].Metadata.Name, at(t, reference, "name"))
			}
		}
	})
}

// compose.yaml has every server that a hapax.yaml can name, in the images that the
// framework itself is tested on, on loopback, where hapax.yaml looks for it.
func TestTheComposeFile(t *testing.T) {
	type compose struct {
		Name     string         `yaml:"name"`
		Volumes  map[string]any `yaml:"volumes"`
		Services map[string]struct {
			Image           string   `yaml:"image"`
			Profiles        []string `yaml:"profiles"`
			Ports           []string `yaml:"ports"`
			Volumes         []string `yaml:"volumes"`
			Environment     any      `yaml:"environment"`
			Command         []string `yaml:"command"`
			Hostname        string   `yaml:"hostname"`
			User            string   `yaml:"user"`
			StopSignal      string   `yaml:"stop_signal"`
			StopGracePeriod string   `yaml:"stop_grace_period"`
			Healthcheck     struct {
				Test     []string `yaml:"test"`
				Interval string   `yaml:"interval"`
				Timeout  string   `yaml:"timeout"`
				Retries  int      `yaml:"retries"`
			} `yaml:"healthcheck"`
		} `yaml:"services"`
	}
	ours, err := os.ReadFile("../../../../compose.yaml")
	require.NoError(t, err)
	everyService(t, func(t *testing.T, o Options, files map[string]string) {
		var file compose
		decode(t, files["compose.yaml"], &file, yaml.Strict())
		var profiles []string
		for name, service := range file.Services {
			require.Contains(t, string(ours), "image: "+service.Image+"\n", "the image is pinned to the one that is tested")
			require.Equal(t, []string{name}, service.Profiles)
			require.NotEmpty(t, service.Healthcheck.Test, name)
			require.NotZero(t, service.Healthcheck.Retries, name)
			profiles = append(profiles, name)
			for _, port := range service.Ports {
				require.True(t, strings.HasPrefix(port, "127.0.0.1:"), port)
			}
			for _, volume := range service.Volumes {
				volume, _, _ := strings.Cut(volume, ":")
				require.Contains(t, file.Volumes, volume)
			}
		}
		for _, profile := range (values{o, brokers[o.Broker], databases[o.SQL]}).Profiles() {
			require.Contains(t, profiles, profile)
			reached := regexp.MustCompile(`(?m)^[^#]*127\.0\.0\.1:\d+`).FindAllString(files["hapax.yaml"], -1)
			require.True(t, slices.ContainsFunc(file.Services[profile].Ports, func(published string) bool {
				host := published[:strings.LastIndex(published, ":")]
				return slices.ContainsFunc(reached, func(line string) bool { return strings.HasSuffix(line, host) })
			}), "hapax.yaml reaches %s: %q", profile, reached)
		}
	})
}
