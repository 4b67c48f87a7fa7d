package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
)

type composeFile struct {
	Services map[string]struct {
		Image       string
		Ports       []string
		Environment map[string]any
		Healthcheck struct {
			Test          []string
			StartInterval string `yaml:"start_interval"`
		}
	}
}

func readCompose(t *testing.T) (composeFile, string) {
	t.Helper()
	here, err := os.Getwd()
	require.NoError(t, err)
	root, err := servers.ModuleRoot(here)
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "compose.yaml"))
	require.NoError(t, err)
	var file composeFile
	require.NoError(t, yaml.Unmarshal(text, &file))
	require.NotEmpty(t, file.Services)
	return file, string(text)
}

var (
	exactVersion = regexp.MustCompile(`^[a-z/]+:\d+\.\d+(\.\d+)?(-[a-z]+)?$`)
	published    = regexp.MustCompile(`^127\.0\.0\.1:\$\{(HAPAX_PORT_\w+):-(\d+)\}:(.+)$`)
)

func TestEveryServiceIsPinnedCheckedAndOnLoopback(t *testing.T) {
	file, _ := readCompose(t)
	for name, service := range file.Services {
		require.Regexp(t, exactVersion, service.Image, name)
		require.NotEmpty(t, service.Healthcheck.Test, name)
		require.Empty(t, service.Healthcheck.StartInterval, "%s: engines before 25, such as Debian 12's, refuse to start it", name)
		require.NotEmpty(t, service.Ports, name)
		for _, p := range service.Ports {
			require.Regexp(t, published, p, name)
		}
	}
}

// The launcher sets the file's variables to the ports it picked: each must be a
// port of the recipe, with the same default, and each service must exist.
func TestRecipesAndComposeAgree(t *testing.T) {
	file, text := readCompose(t)
	for name, r := range recipes {
		for _, nodes := range []int{1, 3} {
			if nodes == 3 && name != servers.Kafka {
				continue
			}
			known := map[string]string{}
			for _, p := range r.ports(nodes) {
				known[p.variable] = fmt.Sprint(p.preferred)
			}
			for _, service := range r.services(nodes) {
				require.Contains(t, file.Services, service)
				for _, p := range file.Services[service].Ports {
					match := published.FindStringSubmatch(p)
					require.Equal(t, known[match[1]], match[2], "%s: %s", service, p)
				}
			}
			for variable, preferred := range known {
				for _, use := range regexp.MustCompile(`\$\{`+variable+`:-(\d+)\}`).FindAllStringSubmatch(text, -1) {
					require.Equal(t, preferred, use[1], variable)
				}
			}
		}
	}
	require.Equal(t, kafkaArtifact.version, strings.TrimPrefix(file.Services["kafka"].Image, "apache/kafka:"))
	require.Equal(t, sqsVersion, strings.TrimPrefix(file.Services["sqs"].Image, "softwaremill/elasticmq:"))
}

// A native Kafka and one in Docker must behave alike.
func TestKafkaIsConfiguredAlikeEverywhere(t *testing.T) {
	file, _ := readCompose(t)
	its := map[string]bool{ // addresses and folders differ, of course
		"listeners": true, "advertised.listeners": true, "controller.quorum.voters": true, "log.dirs": true,
	}
	for _, nodes := range []int{1, 3} {
		s := &site{name: servers.Kafka, dir: t.TempDir(), nodes: nodes, ports: map[string]int{}}
		environment := file.Services[kafkaServices(nodes)[0]].Environment
		for line := range strings.Lines(kafkaConfig(s, 1, "data", nil)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			variable := "KAFKA_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
			single := nodes == 1 && (key == "default.replication.factor" || key == "min.insync.replicas") // 1 is Kafka's default
			if !its[key] && !single {
				require.Equal(t, value, fmt.Sprint(environment[variable]), variable)
			}
		}
	}
}
