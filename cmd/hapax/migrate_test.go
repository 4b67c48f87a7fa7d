package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

func TestMigrate(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, _ sqldb.Dialect, dsn string) {
		t.Chdir(t.TempDir())
		require.NoError(t, os.WriteFile("hapax.yaml", []byte("service: shop\nsqlite: {path: "+filepath.Join(t.TempDir(), "broker.db")+"}\nsql: {dsn: \""+dsn+"\"}\n"), 0o600))

		text, err := run(t, "migrate", "status")
		require.ErrorContains(t, err, "run `hapax migrate up`")
		require.Equal(t, 2, exitStatus(err))
		require.Contains(t, text, "pending")
		text, err = run(t, "migrate", "up")
		require.NoError(t, err)
		require.Contains(t, text, "applied 0001_inbox\n")
		text, err = run(t, "migrate", "up")
		require.NoError(t, err)
		require.Equal(t, "nothing to do: the schema is current\n", text)
		text, err = run(t, "migrate", "status", "--json")
		require.NoError(t, err)
		require.NotContains(t, text, "null")
		text, err = run(t, "migrate", "sql")
		require.NoError(t, err)
		require.Contains(t, text, "INSERT INTO hapax_migrations")
	})
}

// A second service on a database, with names of its own for the tables, is told that they
// are not there, where "the schema is current" and "run hapax migrate up" took turns.
func TestMigrateUnderOtherNames(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, _ sqldb.Dialect, dsn string) {
		broker := "service: shop\nsqlite: {path: \"" + filepath.Join(t.TempDir(), "broker.db") + "\"}\nsql:\n  dsn: \"" + dsn + "\"\n"
		_, err := run(t, "migrate", "up", "-f", writeConfig(t, broker))
		require.NoError(t, err)

		other := writeConfig(t, broker+"  inbox: {table: shop_inbox}\n  outbox: {table: shop_outbox}\n")
		for _, line := range []string{"migrate up", "migrate up --json", "migrate status"} {
			text, err := run(t, append(strings.Fields(line), "-f", other)...)
			require.ErrorContains(t, err, "is missing, but the migrations of its database have run: under other names", line)
			require.Equal(t, 1, exitStatus(err), line)
			require.NotContains(t, text, "the schema is current", line)
		}
		text, err := run(t, "doctor", "orders", "-f", other)
		require.Equal(t, 2, exitStatus(err))
		require.Contains(t, text, "unsafe: sql-schema of sql.dsn\n")
	})
}
