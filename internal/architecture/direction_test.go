// Package architecture holds the rules of the house as tests.
package architecture

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/hapax-go/hapax/"

// mayImport is the import direction, top folder by top folder:
//
//	cmd, examples → framework → adapters, outbox, handlers → dedup → internal
var mayImport = map[string]struct {
	folders []string
	because string
}{
	"internal":  {nil, "internal packages serve everybody, so they know nobody"},
	"dedup":     {[]string{"internal"}, "the core knows messages and its own ports; brokers and databases plug into it"},
	"handlers":  {[]string{"internal", "dedup", "adapters"}, "user functions know neither service nor database; of adapters only the port"},
	"outbox":    {[]string{"internal", "dedup"}, "the outbox works in any program, without the framework"},
	"adapters":  {[]string{"internal", "dedup", "outbox"}, "a broker knows the ports it fills, never the service that uses it"},
	"framework": {[]string{"internal", "dedup", "handlers", "outbox", "adapters"}, "the only place that wires"},
	"examples":  {[]string{"internal", "dedup", "handlers", "outbox", "adapters", "framework"}, "examples are users"},
	"cmd":       {[]string{"internal", "dedup", "handlers", "outbox", "adapters", "framework", "examples"}, "the command line is thin over the packages"},
}

// sdks are broker clients, drivers and other large dependencies, and the one
// folder each may be imported in. Tests and test tools (internal) are exempt:
// an independent look at a server is what they are for.
var sdks = map[string][]string{
	"github.com/twmb/franz-go":                            {"adapters/kafka"},
	"github.com/ThreeDotsLabs/watermill-kafka":            {"adapters/kafka"},
	"github.com/rabbitmq/amqp091-go":                      {"adapters/rabbitmq"},
	"github.com/ThreeDotsLabs/watermill-amqp":             {"adapters/rabbitmq"},
	"github.com/aws/aws-sdk-go-v2":                        {"adapters/sqs"},
	"github.com/ThreeDotsLabs/watermill-aws":              {"adapters/sqs"},
	"github.com/redis/go-redis":                           {"adapters/redis"},
	"github.com/ThreeDotsLabs/watermill-redisstream":      {"adapters/redis"},
	"modernc.org/sqlite":                                  {"outbox/sqldb"},
	"github.com/Shopify/toxiproxy":                        {"internal/fault/proxy"},
	"github.com/charmbracelet/bubbletea":                  {"cmd/hapax"},
	"github.com/spf13/cobra":                              {"cmd/hapax", "internal/servers"},
	"github.com/prometheus/client_golang":                 {"framework"},
	"github.com/cloudevents/sdk-go":                       {"handlers"},
	"github.com/ThreeDotsLabs/watermill-sql":              {"outbox"},
	"github.com/jackc/pgx":                                {"outbox/sqldb"},
	"github.com/go-sql-driver/mysql":                      {"outbox/sqldb"},
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel": {},
}

type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func packages(t *testing.T) (all []listed) {
	t.Helper()
	command := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"...")
	output, err := command.Output()
	require.NoError(t, err)
	decoder := json.NewDecoder(strings.NewReader(string(output)))
	for decoder.More() {
		var one listed
		require.NoError(t, decoder.Decode(&one))
		all = append(all, one)
	}
	require.NotEmpty(t, all)
	return all
}

func TestImportsRunOneWay(t *testing.T) {
	for _, pkg := range packages(t) {
		folder := strings.TrimPrefix(pkg.ImportPath, module)
		top, _, _ := strings.Cut(folder, "/")
		rule, known := mayImport[top]
		require.True(t, known, "%s stands outside of the known folders", pkg.ImportPath)
		for _, imported := range pkg.Imports {
			inside, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			target, _, _ := strings.Cut(inside, "/")
			if target != top && !slices.Contains(rule.folders, target) {
				t.Errorf("%s imports %s: %s", folder, inside, rule.because)
			}
			if top == "handlers" && target == "adapters" && inside != "adapters" {
				t.Errorf("%s imports %s: %s", folder, inside, rule.because)
			}
			if top == "adapters" && siblings(folder, inside) {
				t.Errorf("%s imports %s: adapters do not know each other", folder, inside)
			}
		}
	}
}

// siblings reports whether two packages are folders of different brokers.
func siblings(one, other string) bool {
	shared := []string{"adapters", "adapters/flow", "adapters/adaptertest"}
	broker := func(folder string) string {
		if !strings.HasPrefix(folder, "adapters/") || slices.Contains(shared, folder) {
			return ""
		}
		return strings.Split(folder, "/")[1]
	}
	a, b := broker(one), broker(other)
	return b != "" && a != b
}

func TestAnSDKIsImportedInOneFolder(t *testing.T) {
	for _, pkg := range packages(t) {
		folder := strings.TrimPrefix(pkg.ImportPath, module)
		if strings.HasPrefix(folder, "internal/") {
			continue
		}
		for _, imported := range pkg.Imports {
			for sdk, folders := range sdks {
				if imported != sdk && !strings.HasPrefix(imported, sdk+"/") {
					continue
				}
				inside := slices.ContainsFunc(folders, func(allowed string) bool {
					return folder == allowed || strings.HasPrefix(folder, allowed+"/")
				})
				if !inside {
					t.Errorf("%s imports %s: only %v may, so that the SDK can change in one place", folder, imported, folders)
				}
			}
		}
	}
}
