package main

import (
	"os"
	"path/filepath"
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
