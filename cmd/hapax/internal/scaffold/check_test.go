package scaffold

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// read runs the program in check on services in these folders.
func read(t *testing.T, folders ...string) error {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", append([]string{"run", "-C", "check", "."}, folders...)...)
	output, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, output)
	}
	return nil
}

// What is for others to run is read as those others do, for every service there is:
// Docker Compose, BuildKit, GitHub, kubectl apply -k, the API server, KEDA.
func TestOthersTakeTheFiles(t *testing.T) {
	var folders []string
	for _, broker := range Brokers() {
		for _, database := range Databases {
			folders = append(folders, made(t, Options{Broker: broker, SQL: database}))
		}
	}
	require.NoError(t, read(t, folders...))
}

func made(t *testing.T, o Options) string {
	folder := filepath.Join(t.TempDir(), "shop")
	o.Name, o.Framework = "shop", here(t)
	files, err := Files(o.WithDefaults())
	require.NoError(t, err)
	require.NoError(t, Write(folder, files, false))
	return folder
}

// Each of the readers refuses what is wrong.
func TestOthersRefuseWhatIsWrong(t *testing.T) {
	folder := made(t, Options{Broker: "kafka", SQL: "postgres"})
	wrong := []struct{ file, old, new, says string }{
		{"compose.yaml", "healthcheck:", "heathcheck:", "heathcheck"},
		{"Dockerfile", "\nCOPY . .\n", "\nCOPPY . .\n", "COPPY"},
		{".github/workflows/ci.yaml", "runs-on: ubuntu-24.04", "runs-on: ubuntu-2404", "ubuntu-2404"},
		{"deploy/deployment.yaml", "terminationGracePeriodSeconds", "terminationGracePeriod", "terminationGracePeriod"},
		{"deploy/secret.example.yaml", "stringData:", "stringdata:", "stringdata"},
		{"deploy/keda/kafka.yaml", "maxReplicaCount", "maxReplicas", "maxReplicas"},
	}
	for _, w := range wrong {
		path := filepath.Join(folder, w.file)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		broken := strings.Replace(string(text), w.old, w.new, 1)
		require.NotEqual(t, string(text), broken, w.file)
		require.NoError(t, os.WriteFile(path, []byte(broken), 0o600))
	}
	err := read(t, folder)
	for _, w := range wrong {
		require.ErrorContains(t, err, w.says, w.file)
	}
}
