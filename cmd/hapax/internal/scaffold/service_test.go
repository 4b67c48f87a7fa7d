package scaffold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/internal/live"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

// A new service on every broker: it builds, its own tests pass, and on the real
// server the same event twice has one effect.
func TestANewServiceRunsAtOnce(t *testing.T) {
	// One after the other in the same folder: most of the code is the same, so that Go
	// need not build it anew.
	folder := filepath.Join(t.TempDir(), "shop")
	for _, o := range []Options{
		{Broker: "sqlite"}, {Broker: "kafka"}, {Broker: "rabbitmq"}, {Broker: "redis"}, {Broker: "sqs"}, {Broker: "sqs-fifo"},
		{Broker: "sqlite", SQL: "sqlite"}, {Broker: "kafka", SQL: "postgres"}, {Broker: "redis", SQL: "mysql"},
	} {
		o = o.WithDefaults()
		t.Run(o.Broker+" "+o.SQL, func(t *testing.T) {
			place := live.New(t, o.Broker, "orders", "shipments")
			place.ReadAs("shipments", "dispatch.shipments") // the reader that hapax.yaml names
			empty(t, folder)
			o.Name, o.Module, o.Framework = "shop", "example.com/team/shop", here(t)
			files, err := Files(o)
			require.NoError(t, err)
			require.NoError(t, Write(folder, files, true)) // bin is there
			runIn(t, folder, nil, "make", "lint", "build")
			runIn(t, folder, nil, "make", "test")

			environ := place.Environ
			if o.SQL != "none" {
				environ = place.With("DATABASE_URL", sqldbtest.New(t, sqldb.Dialect(o.SQL)))
			}
			if o.SQL == "sqlite" { // the embedded broker's own file, as hapax.yaml has it
				environ = slices.DeleteFunc(environ, func(v string) bool { return strings.HasPrefix(v, "HAPAX_SQLITE_PATH=") })
			}
			if o.SQL != "none" {
				runIn(t, folder, environ, "bin/migrate")
			}
			t.Chdir(folder)
			service := live.Start(t, filepath.Join(folder, "bin", "shop"), folder, environ)
			publishTwice(t, environ)
			service.Await(t, func(count live.Counts) bool {
				// A FIFO queue drops the copy itself, within its five minutes.
				return count["processed"] >= 2 && (count["duplicate"]+count["lost_race"] >= 1 || o.Broker == "sqs-fifo")
			})
			if o.Broker != embedded || o.SQL == "none" {
				place.AwaitRead(t, "shipments", 2)
			}
			require.Equal(t, 2, service.Counts()["processed"])
			service.Stop(t)
			if o.Broker != embedded || o.SQL == "none" {
				require.ElementsMatch(t, []string{"1", "2"}, shipped(t, place.Read(t, "shipments")))
			}
			if o.SQL != "none" {
				require.Equal(t, []string{"1", "2"}, recorded(t, environ))
			}
		})
	}
}

// What make image vendors is for the image only. Left behind, Go would build the service
// from it, whatever becomes of the framework, and make lint would complain about it.
func TestAnImageLeavesNoVendoredFramework(t *testing.T) {
	folder, tools := filepath.Join(t.TempDir(), "shop"), t.TempDir()
	files, err := Files(Options{Name: "shop", Framework: here(t)})
	require.NoError(t, err)
	require.NoError(t, Write(folder, files, false))
	t.Setenv("PATH", tools+string(filepath.ListSeparator)+os.Getenv("PATH"))
	for name, status := range map[string]int{"built": 0, "failed": 1} {
		t.Run(name, func(t *testing.T) {
			docker := fmt.Sprintf("#!/bin/sh\nls vendor/modules.txt || exit 7\nexit %d\n", status)
			require.NoError(t, os.WriteFile(filepath.Join(tools, "docker"), []byte(docker), 0o700))
			command := exec.CommandContext(t.Context(), "make", "image")
			command.Dir = folder
			output, err := command.CombinedOutput()
			require.Contains(t, string(output), "\nvendor/modules.txt\n")
			require.Equal(t, status == 0, err == nil, "%s", output)
			require.NoDirExists(t, filepath.Join(folder, "vendor"))
			runIn(t, folder, nil, "make", "lint")
		})
	}
}

// A folder may be called as its owner likes; what is there is checked.
func TestLintInAFolderWithASpace(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "my shop")
	files, err := Files(Options{Name: "shop", Framework: here(t)})
	require.NoError(t, err)
	require.NoError(t, Write(folder, files, false))
	runIn(t, folder, nil, "make", "lint")
	require.NoError(t, os.WriteFile(filepath.Join(folder, "handlers", "odd.go"), []byte("package  handlers\n"), 0o600))
	command := exec.CommandContext(t.Context(), "make", "lint")
	command.Dir = folder
	output, err := command.CombinedOutput()
	require.Error(t, err, string(output))
	require.Contains(t, string(output), "not formatted: handlers/odd.go\n")
}

// empty removes the last service, except for what was built of it: Go knows whether
// that is still good.
func empty(t *testing.T, folder string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
	}
	for _, entry := range entries {
		if entry.Name() != "bin" {
			require.NoError(t, os.RemoveAll(filepath.Join(folder, entry.Name())))
		}
	}
}

func runIn(t *testing.T, folder string, environ []string, name string, arguments ...string) {
	t.Helper()
	if strings.Contains(name, "/") {
		name = filepath.Join(folder, name)
	}
	command := exec.CommandContext(t.Context(), name, arguments...)
	command.Dir, command.Env = folder, append(live.Without("HAPAX_"), environ...)
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s %v\n%s", name, arguments, output)
}

// publishTwice sends one order twice, then another one, by hapax.yaml in the
// working directory.
func publishTwice(t *testing.T, environ []string) {
	for _, variable := range environ { // the AWS client reads its own variables from the process
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, value)
		}
	}
	cfg, err := config.Load("", environ)
	require.NoError(t, err)
	producer, err := framework.New(context.WithoutCancel(t.Context()), cfg, framework.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	defer func() { require.NoError(t, producer.Close()) }()
	for _, id := range []string{"1", "1", "2"} {
		event := message.NewMessage("", fmt.Appendf(nil, `{"id":%q,"item":"book"}`, id))
		event.Metadata.Set(dedup.MetaEventID, "order-"+id)
		event.Metadata.Set(dedup.MetaKey, "a customer")
		require.NoError(t, producer.Publisher().Publish("orders", event))
	}
}

func shipped(t *testing.T, payloads [][]byte) (orders []string) {
	for _, payload := range payloads {
		var shipment struct {
			OrderID string `json:"order_id"`
			Item    string `json:"item"`
		}
		require.NoError(t, json.Unmarshal(payload, &shipment))
		require.Equal(t, "book", shipment.Item)
		orders = append(orders, shipment.OrderID)
	}
	return orders
}

// recorded reads the service's rows with a connection of its own.
func recorded(t *testing.T, environ []string) (orders []string) {
	cfg, err := config.Load("", environ)
	require.NoError(t, err)
	db := sqldbtest.Open(t, cfg.SQL.DSN.Reveal(), sqldb.Options{})
	rows, err := db.QueryContext(t.Context(), `SELECT order_id FROM shipments ORDER BY order_id`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var order string
		require.NoError(t, rows.Scan(&order))
		orders = append(orders, order)
	}
	require.NoError(t, rows.Err())
	return orders
}
