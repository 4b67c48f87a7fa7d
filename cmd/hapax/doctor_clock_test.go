package main

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

// The clocks of this machine and of a server differ: the servers have the right time,
// and the bubble that the command runs in has the year 2000.
func TestDoctorFindsAWrongClock(t *testing.T) {
	clock := func(check, configuration string) func(*testing.T) {
		return func(t *testing.T) {
			found, err := doctor(t, configuration, "orders")
			require.NoError(t, err)
			require.Equal(t, "ok", found[check].Status, "%+v", found)
			synctest.Test(t, func(t *testing.T) {
				found, err = doctor(t, configuration, "orders")
			})
			require.NoError(t, err)
			require.Equal(t, "warning", found[check].Status, "%+v", found)
			require.Contains(t, found[check].Problem, "the server's clock differs from this machine's by 2")
			t.Logf("%s: %s", check, found[check].Problem)
		}
	}
	t.Run("redis", func(t *testing.T) {
		address := servers.Require(t, servers.Redis)
		clock("redis-clock", onRedis(address.Hosts[0]))(t)
	})
	for _, dialect := range []sqldb.Dialect{sqldb.Postgres, sqldb.MySQL} {
		t.Run(string(dialect), func(t *testing.T) {
			clock("sql-clock", embedded(t, fmt.Sprintf("sql: {dsn: %q}\n", sqldbtest.New(t, dialect))))(t)
		})
	}
}
