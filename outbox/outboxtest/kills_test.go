package outboxtest_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault/proxy"
	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/outbox/outboxtest"
)

// soak asks for the full sizes of the acceptance scenarios.
var soak = os.Getenv("HAPAX_SOAK") == "1"

// openForKills is open with a table for the application's own effects.
func openForKills(t *testing.T, dsn string) outboxtest.Harness {
	t.Helper()
	harness := open(t, dsn)
	effects := harness.Outbox.Dialect.Quote(harness.Outbox.Table.With("_effects"))
	_, err := harness.DB.Exec("CREATE TABLE " + effects + " (id VARCHAR(200) PRIMARY KEY)")
	require.NoError(t, err)
	return harness
}

func TestAcceptanceKilledRelays(t *testing.T) {
	databases(t, func(t *testing.T, dsn string) {
		options := outboxtest.KillOptions{
			Rows: 6_000, Writers: 32, Longest: 200 * time.Millisecond, Relays: 3, KillEvery: 400 * time.Millisecond, Seed: 15,
			// Those kills may find no relay between the broker and the database. The
			// first three die there for certain.
			Failpoints: func(n int) string {
				if n > 3 {
					return ""
				}
				return fmt.Sprintf("%s@%d", failpoint.RelaySent, n)
			},
		}
		if soak {
			options.Rows, options.Longest, options.KillEvery = 100_000, 500*time.Millisecond, 2*time.Second
		}
		require.Positive(t, outboxtest.Kills(t, openForKills(t, dsn), options))
	})
}

// Every relay dies at a point inside a round, until enough have.
func TestAcceptanceCrashPoints(t *testing.T) {
	for _, point := range []failpoint.Point{failpoint.RelayClaimed, failpoint.RelaySent} {
		t.Run(string(point), func(t *testing.T) {
			databases(t, func(t *testing.T, dsn string) {
				copies := outboxtest.Kills(t, openForKills(t, dsn), outboxtest.KillOptions{
					Rows: 2_000, Writers: 8, Longest: 20 * time.Millisecond, Relays: 2, Seed: 7,
					Failpoints: func(n int) string {
						if n > 6 {
							return ""
						}
						return fmt.Sprintf("%s@%d", point, 1+n%3)
					},
				})
				if point == failpoint.RelaySent {
					require.Positive(t, copies)
				}
			})
		})
	}
}

// The relays' connections to the database die after 500 to 1,500 ms each.
func TestAcceptanceConnectionsDie(t *testing.T) {
	for _, name := range []string{servers.Postgres, servers.MariaDB} {
		t.Run(name, func(t *testing.T) {
			address := servers.Require(t, name)
			between, err := proxy.Listen(address.Hosts[0], 6)
			require.NoError(t, err)
			defer between.Close()
			between.CutEvery(500*time.Millisecond, 1500*time.Millisecond)
			outboxtest.Kills(t, openForKills(t, address.URL), outboxtest.KillOptions{
				Rows: 6_000, Writers: 16, Longest: 200 * time.Millisecond, Relays: 2, Seed: 6,
				DSN: strings.Replace(address.URL, address.Hosts[0], between.Addr(), 1),
			})
			require.Positive(t, between.Stats().Cut)
		})
	}
}

// The database is restarted in the middle, once in order and once by kill -9, for
// writers and relays. It is every test's server: run this alone, with
// HAPAX_SERVERS_DIR at servers of its own.
func TestAcceptanceDatabaseRestarts(t *testing.T) {
	servers.OnRequest(t, "HAPAX_SOAK", "it restarts the servers under every other test")
	for _, name := range []string{servers.Postgres, servers.MariaDB} {
		for how, hard := range map[string]bool{"clean": servers.Clean, "hard": servers.Hard} {
			t.Run(name+"/"+how, func(t *testing.T) {
				address := servers.Require(t, name)
				outboxtest.Kills(t, openForKills(t, address.URL), outboxtest.KillOptions{
					Rows: 20_000, Writers: 16, Longest: 300 * time.Millisecond, Relays: 3, Seed: 11,
					Disturb: func(ctx context.Context) error {
						for range 2 {
							select {
							case <-ctx.Done():
								return nil
							case <-time.After(2 * time.Second):
							}
							if err := servers.Restart(context.WithoutCancel(ctx), name, hard); err != nil {
								return err
							}
						}
						return nil
					},
				})
			})
		}
	}
}
