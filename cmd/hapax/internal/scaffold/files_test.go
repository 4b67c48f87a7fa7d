package scaffold

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework/config"
)

// here is this checkout.
func here(t testing.TB) Framework {
	t.Helper()
	folder, err := filepath.Abs("../../../..")
	require.NoError(t, err)
	return Framework{Folder: folder}
}

// everyService calls test with the files of a service on every broker, with every
// database.
func everyService(t *testing.T, test func(t *testing.T, o Options, files map[string]string)) {
	for _, broker := range Brokers() {
		for _, database := range Databases {
			t.Run(broker+" "+database, func(t *testing.T) {
				o := Options{Name: "shop", Broker: broker, SQL: database, Framework: here(t)}.WithDefaults()
				made, err := Files(o)
				require.NoError(t, err)
				files := map[string]string{}
				for _, file := range made {
					require.NotContains(t, files, file.Path, "made twice")
					files[file.Path] = string(file.Data)
					require.NotContains(t, string(file.Data), "[[", file.Path)
					if path := filepath.Base(file.Path); path != "go.sum" {
						require.NotRegexp(t, `[ \t]\n|\n\n\n`, string(file.Data), "%s has stray white space", file.Path)
					}
				}
				test(t, o, files)
			})
		}
	}
}

func TestEveryBrokerOfTheRulesTableIsKnown(t *testing.T) {
	for _, rule := range dedup.Rules {
		require.Contains(t, brokers, rule.Broker)
		require.Equal(t, rule.Ledger, brokers[rule.Broker].sharesLedger, rule.Broker)
	}
	require.Len(t, brokers, len(dedup.Rules))
	for _, database := range Databases {
		require.Contains(t, databases, database)
	}
}

// hapax.yaml has every broker's block with every key and its documentation, one of
// them in force; the cluster's is valid too.
func TestTheSettings(t *testing.T) {
	example := string(config.Example())
	everyService(t, func(t *testing.T, o Options, files map[string]string) {
		text := files["hapax.yaml"]
		cfg, err := config.Parse("hapax.yaml", []byte(text), nil)
		require.NoError(t, err)
		require.Equal(t, o.Name, cfg.Service)
		require.Equal(t, o.Broker, cfg.Broker)
		require.Equal(t, []string{reader}, cfg.RabbitMQ.Readers)
		require.Equal(t, o.SQL != "none", cfg.SQL.Enabled())
		if o.SQL != "none" {
			require.Equal(t, o.SQL, cfg.SQL.DSN.Driver())
		}
		active, _, _ := strings.Cut(o.Broker, "-")
		for _, block := range []string{"sqlite", "kafka", "rabbitmq", "redis", "sqs"} {
			mark := "#"
			// That of RabbitMQ names who reads the outputs, for when the broker is changed.
			if block == active && len(brokers[o.Broker].local) > 0 || block == "rabbitmq" {
				mark = ""
			}
			require.Contains(t, text, "\n"+mark+block+":\n")
		}
		for _, setting := range config.Settings() {
			top, rest, nested := strings.Cut(setting.Path, ".")
			if nested && slices.Contains(blocks, top) {
				keys := strings.Split(rest, ".")
				require.Regexp(t, fmt.Sprintf(`(?m)^ *#?%s:`, keys[len(keys)-1]), text, setting.Path)
			}
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(strings.TrimSpace(line), "# ") && !strings.Contains(heading, line) {
				require.Contains(t, example, line, "documentation that the config package does not have")
			}
		}

		var inCluster struct {
			Data map[string]string `yaml:"data"`
		}
		decode(t, files["deploy/configmap.yaml"], &inCluster)
		environ := []string{
			"RABBITMQ_URL=amqps://user:password@host/", "REDIS_PASSWORD=password", "LEDGER_URL=redis://host:6379/0",
			"DATABASE_URL=" + map[string]string{"postgres": "postgres://user:password@host/shop", "mysql": "user:password@tcp(host:3306)/shop"}[o.SQL],
		}
		cfg, err = config.Parse("configmap.yaml", []byte(inCluster.Data["hapax.yaml"]), environ)
		require.NoError(t, err)
		require.Equal(t, o.Broker, cfg.Broker)
		require.Equal(t, "0.0.0.0:8086", cfg.Admin.Address)
		require.Equal(t, o.SQL != "none", cfg.SQL.Enabled())
		if brokers[o.Broker].sharesLedger && o.SQL == "none" {
			store, _ := cfg.LedgerStore()
			require.Equal(t, "redis", store, "replicas on several hosts share their ledger")
		}
	})
}

func TestTheModule(t *testing.T) {
	o := Options{Name: "shop", Module: "example.org/team/shop", Framework: here(t)}.WithDefaults()
	files, err := moduleFiles(o)
	require.NoError(t, err)
	text := string(files[0].Data)
	require.Contains(t, text, "module example.org/team/shop\n")
	require.Contains(t, text, "\nreplace github.com/hapax-go/hapax => "+o.Framework.Folder+"\n")
	require.Contains(t, text, "\n\tgithub.com/hapax-go/hapax v0.0.0\n")
	require.Equal(t, "go.sum", files[1].Path)

	o.Framework = Framework{Version: "v1.2.3"}
	files, err = moduleFiles(o)
	require.NoError(t, err)
	require.Len(t, files, 1, "go mod tidy makes go.sum")
	text = string(files[0].Data)
	require.Contains(t, text, "require github.com/hapax-go/hapax v1.2.3\n")
	require.NotContains(t, text, "replace")
	all, err := Files(o)
	require.NoError(t, err)
	for _, file := range all {
		require.NotContains(t, string(file.Data), "a folder on this machine", file.Path)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, test := range []struct {
		options Options
		want    string
	}{
		{Options{Name: "Shop"}, `name is "Shop", expected small letters, digits and dashes, a letter first, 40 at most: it names Kubernetes objects too`},
		{Options{Name: "shop-"}, `name is "shop-", expected small letters, digits and dashes, a letter first, 40 at most: it names Kubernetes objects too`},
		{Options{Name: "yes"}, `name is "yes", which YAML does not read as text, and manifests are YAML: choose another`},
		{Options{Name: "migrate", SQL: "sqlite"}, `name is "migrate", which is the command that makes the service's own tables, and would take its place in bin and in the image: choose another`},
		{Options{Name: "shop", Module: "a b"}, `module is "a b", expected a path such as example.com/orders: malformed import path "a b": invalid char ' '`},
		{Options{Name: "shop", Module: "fmt"}, `module is "fmt", which is a package of Go's standard library and does not build as another module: expected a path such as example.com/orders`},
		{Options{Name: "shop", Module: "net/http"}, `module is "net/http", which is a package of Go's standard library and does not build as another module: expected a path such as example.com/orders`},
		{Options{Name: "shop", Module: "std"}, `module is "std", which is a package of Go's standard library and does not build as another module: expected a path such as example.com/orders`},
		{Options{Name: "shop", Module: "C"}, `module is "C", which is kept for Go itself and does not build as another module: expected a path such as example.com/orders`},
		{Options{Name: "shop", Module: "toolchain"}, `module is "toolchain", which is kept for Go itself and does not build as another module: expected a path such as example.com/orders`},
		{Options{Name: "shop", Module: "example.com/vendor/shop"}, `module is "example.com/vendor/shop", which is kept for Go itself and does not build as another module: expected a path such as example.com/orders`},
		{Options{Name: "shop", Module: "github.com/hapax-go/hapax"}, `module is "github.com/hapax-go/hapax", which is the framework's own and does not build as another module: expected a path such as example.com/orders`},
		{Options{Name: "shop", Broker: "pigeon"}, `broker is "pigeon", expected one of sqlite, kafka, rabbitmq, sqs-fifo, sqs, redis`},
		{Options{Name: "shop", SQL: "oracle"}, `sql is "oracle", expected one of none, postgres, mysql, sqlite`},
	} {
		_, err := Files(test.options)
		require.EqualError(t, err, test.want)
	}
	for _, builds := range []string{"shop", "main", "net/shop", "internal/shop", "example.com/internal/shop", "example.com/fmt"} {
		require.NoError(t, CheckModule(builds), builds)
	}
}

func TestTheFrameworkIsFound(t *testing.T) {
	real := here(t).Folder
	t.Chdir(t.TempDir())
	found, err := Find(real)
	require.NoError(t, err)
	require.Equal(t, Framework{Folder: real}, found)

	_, err = Find("nowhere")
	require.ErrorContains(t, err, "find framework: --replace nowhere: expected a checkout of github.com/hapax-go/hapax")
	require.NoError(t, os.WriteFile("go.mod", []byte("module example.com/other\n"), 0o600))
	_, err = Find(".")
	require.EqualError(t, err, `find framework: --replace .: found module "example.com/other", expected a checkout of github.com/hapax-go/hapax`)

	// Above the working directory, before all else.
	fake := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(fake, "go.mod"), []byte("module github.com/hapax-go/hapax\n"), 0o600))
	require.NoError(t, os.MkdirAll(filepath.Join(fake, "a", "b"), 0o755))
	t.Chdir(filepath.Join(fake, "a", "b"))
	found, err = Find("")
	require.NoError(t, err)
	fake, err = filepath.EvalSymlinks(fake)
	require.NoError(t, err)
	require.Equal(t, fake, found.Folder)

	// Where this test was compiled.
	t.Chdir(t.TempDir())
	found, err = Find("")
	require.NoError(t, err)
	require.Equal(t, real, found.Folder)
	require.Empty(t, above(t.TempDir()))
}

func TestAFolderThatIsNotEmptyIsRefused(t *testing.T) {
	folder := t.TempDir()
	files := []File{{Path: "a/b.txt", Data: []byte("new")}, {Path: "c.txt", Data: []byte("new")}}
	require.NoError(t, Write(folder, files, false), "an empty folder will do")
	require.NoError(t, os.WriteFile(filepath.Join(folder, "c.txt"), []byte("mine"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "d.txt"), []byte("mine"), 0o600))

	err := Write(folder, files, false)
	require.EqualError(t, err, "write service: folder "+folder+" is not empty (it has a): choose another with --dir, or pass --force to overwrite the files that a service has")
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err)
		return string(text)
	}
	require.Equal(t, "mine", read("c.txt"))
	require.NoError(t, Write(folder, files, true))
	require.Equal(t, "new", read("c.txt"))
	require.Equal(t, "new", read("a/b.txt"))
	require.Equal(t, "mine", read("d.txt"))

	require.ErrorContains(t, Write(filepath.Join(folder, "d.txt"), files, true), "write service: ")
}
