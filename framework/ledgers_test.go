package framework_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/handlers"
	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

// Every store remembers: a copy that comes to a second process takes no effect.
func TestEveryLedgerStore(t *testing.T) {
	for store, dsn := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return sqldbtest.New(t, sqldb.SQLite) },
		"postgres": func(t *testing.T) string { return sqldbtest.New(t, sqldb.Postgres) },
		"mysql":    func(t *testing.T) string { return sqldbtest.New(t, sqldb.MySQL) },
		"redis":    func(t *testing.T) string { return servers.Require(t, servers.Redis).URL },
	} {
		t.Run(store, func(t *testing.T) {
			cfg := parse(t, fmt.Sprintf("dedup: {strategy: consumer, ledger: {store: %s, dsn: %q}}\n", store, dsn(t)))
			runs := &counter{}
			once := "order-" + t.Name() + fmt.Sprint(t.TempDir()) // a Redis may have seen others
			for process := range 2 {
				service := newService(t, cfg)
				framework.Handle(service, "orders", func(_ context.Context, order Order) (Shipment, error) {
					runs.add(order.ID)
					return Shipment{OrderID: order.ID}, nil
				}, framework.To("shipments"))
				// A second handler shares the ledger and not the mark.
				framework.Handle(service, "orders", func(_ context.Context, order Order) error {
					runs.add("audit " + order.ID)
					return nil
				}, framework.Name("audit"))
				last := fmt.Sprint(once, "-", process)
				for _, id := range []string{once, once, last} {
					publish(t, service, "orders", id, Order{ID: id})
				}
				stop := start(t, service)
				require.Eventually(t, func() bool { return runs.of(last) == 1 && runs.of("audit "+last) == 1 }, patience, time.Millisecond)
				require.NoError(t, stop())
			}
			require.Equal(t, 1, runs.of(once))
			require.Equal(t, 1, runs.of("audit "+once))
		})
	}
}

// The window is the handler's, wherever its marks are: a copy takes effect again after it,
// and not before, though handlers share a ledger.
func TestEveryStoreRemembersForTheWindow(t *testing.T) {
	for name, settings := range map[string]func(*testing.T) string{
		"memory":   func(*testing.T) string { return "strategy: consumer, allow_volatile: true, ledger: {store: memory}" },
		"sqlite":   func(t *testing.T) string { return ledgerAt("sqlite", sqldbtest.New(t, sqldb.SQLite)) },
		"postgres": func(t *testing.T) string { return ledgerAt("postgres", sqldbtest.New(t, sqldb.Postgres)) },
		"mysql":    func(t *testing.T) string { return ledgerAt("mysql", sqldbtest.New(t, sqldb.MySQL)) },
		"redis":    func(t *testing.T) string { return ledgerAt("redis", servers.Require(t, servers.Redis).URL) },
		"broker":   func(*testing.T) string { return "strategy: auto" },
	} {
		t.Run(name, func(t *testing.T) {
			// The checks would refuse so short a window.
			cfg := parse(t, "dedup: {window: 1s, "+settings(t)+"}\nhandlers: {long: {window: 1h}}\nallow: [dedup-window]\n")
			service := newService(t, cfg)
			runs := &counter{}
			for _, name := range []string{"short", "long"} {
				framework.Handle(service, "orders", func(_ context.Context, order Order) error {
					runs.add(name + " " + order.ID)
					return nil
				}, framework.Name(name))
			}
			id := fmt.Sprint("order-", time.Now().UnixNano()) // a Redis may have seen others
			stop := start(t, service)
			require.Eventually(t, func() bool {
				publish(t, service, "orders", id, Order{ID: id})
				return runs.of("short "+id) > 1
			}, patience, 100*time.Millisecond)
			publish(t, service, "orders", id+"-last", Order{ID: "last"})
			require.Eventually(t, func() bool { return runs.of("long last") == 1 }, patience, time.Millisecond)
			require.NoError(t, stop())
			require.Equal(t, 1, runs.of("long "+id))
		})
	}
}

func ledgerAt(store, dsn string) string {
	return fmt.Sprintf("strategy: consumer, ledger: {store: %s, dsn: %q}", store, dsn)
}

// A ledger that cannot be had is one clear error at start, without its password.
func TestLedgerStartErrors(t *testing.T) {
	postgres := func(t *testing.T) *url.URL {
		parsed, err := url.Parse(sqldbtest.New(t, sqldb.Postgres))
		require.NoError(t, err)
		return parsed
	}
	for name, test := range map[string]struct {
		store   string
		dsn     func(*testing.T) string
		migrate string
		want    []string
	}{
		"postgres: schema missing": {"postgres", func(t *testing.T) string { return postgres(t).String() }, "check",
			[]string{"dedup.ledger", "run `hapax migrate up`"}},
		"mysql: schema missing": {"mysql", func(t *testing.T) string { return sqldbtest.New(t, sqldb.MySQL) }, "check",
			[]string{"dedup.ledger", "run `hapax migrate up`"}},
		"postgres: wrong password": {"postgres", func(t *testing.T) string {
			dsn := postgres(t)
			dsn.User = url.UserPassword("hapax_nobody", "hunter2")
			return dsn.String()
		}, "", []string{"dedup.ledger", "was refused: check user and password"}},
		"mysql: wrong password": {"mysql", func(t *testing.T) string {
			return "hapax_nobody:hunter2@tcp(" + servers.Require(t, servers.MariaDB).Hosts[0] + ")/hapax"
		}, "", []string{"dedup.ledger", "was refused: check user and password"}},
		"postgres: unreachable": {"postgres", func(*testing.T) string { return "postgres://u:hunter2@127.0.0.1:1/db" }, "", []string{"dedup.ledger", "check that the server runs there"}},
		"mysql: unreachable":    {"mysql", func(*testing.T) string { return "u:hunter2@tcp(127.0.0.1:1)/db" }, "", []string{"dedup.ledger", "check that the server runs there"}},
		"redis: unreachable":    {"redis", func(*testing.T) string { return "redis://u:hunter2@127.0.0.1:1/0" }, "", []string{"hapax.yaml:5:", "open redis ledger", "check that the server runs there"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := fmt.Sprintf("dedup: {strategy: consumer, ledger: {store: %s, dsn: %q}}\n", test.store, test.dsn(t))
			cfg := parse(t, text)
			if test.migrate != "" {
				cfg.SQL.Migrate = test.migrate
			}
			service := newService(t, cfg)
			framework.Handle(service, "orders", func(context.Context, Order) error { return nil })
			err := service.Run(t.Context())
			require.Error(t, err)
			t.Log(err)
			for _, want := range test.want {
				require.ErrorContains(t, err, want)
			}
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

// The journal of handlers.Once is the service's ledger: what comes after the effect
// fails, and the effect is not repeated.
func TestOnceInAService(t *testing.T) {
	for _, settings := range []string{"{strategy: consumer}", "{ledger: {store: sqlite}}"} {
		t.Run(settings, func(t *testing.T) {
			service := newService(t, parse(t, "dedup: "+settings+"\n"))
			runs := &counter{}
			framework.Handle(service, "orders", func(ctx context.Context, order Order) error {
				err := handlers.Once(ctx, "charge", func(context.Context, string) error {
					runs.add("charge " + order.ID)
					return nil
				})
				if err == nil && runs.add(order.ID) < 3 {
					err = errors.New("the warehouse did not answer")
				}
				return err
			})
			publish(t, service, "orders", "1", Order{ID: "1"})
			stop := start(t, service)
			require.Eventually(t, func() bool { return runs.of("1") == 3 }, patience, time.Millisecond)
			require.NoError(t, stop())
			require.Equal(t, 1, runs.of("charge 1"))
		})
	}
}
