package rabbitmq_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/proxy"
	"github.com/hapax-go/hapax/internal/servers"
)

// throughProxies puts proxies between the consumers and both the broker and the
// ledger. The embedded ledger has no connection that could suffer.
func throughProxies(t *testing.T, s *scenario) (proxies []*proxy.Proxy) {
	t.Helper()
	through := func(name string) string {
		server := servers.Require(t, name)
		between, err := proxy.Listen(server.Hosts[0], s.workload.Seed+uint64(len(proxies)))
		require.NoError(t, err)
		t.Cleanup(between.Close)
		proxies = append(proxies, between)
		return strings.Replace(server.URL, server.Hosts[0], between.Addr(), 1)
	}
	s.URL = through(servers.RabbitMQ)
	if s.store != "" {
		s.Ledger = through(s.store)
	}
	return proxies
}

// afflict brings the faults once the consumers have started: a service whose first
// connections fail ends, with the reason. But in the soak it ends them when each
// proxy has struck often enough; a machine that is too busy to connect within the time
// that a connection lives would never be done.
func afflict(proxies []*proxy.Proxy, with func(*proxy.Proxy)) func(context.Context, *run) error {
	return func(ctx context.Context, _ *run) error {
		for _, between := range proxies {
			with(between)
		}
		if soak() {
			return nil
		}
		err := poll(ctx, func() (bool, error) {
			return !slices.ContainsFunc(proxies, func(between *proxy.Proxy) bool {
				stats := between.Stats()
				return stats.Cut+stats.Dropped < 30
			}), nil
		})
		if err != nil {
			return nil // the work was done before
		}
		for _, between := range proxies {
			err = errors.Join(err, between.Heal())
		}
		return err
	}
}

// faulty are scenarios whose handlers take a moment, so that the faults have time to
// strike however fast the machine is.
func faulty(events int) scenario {
	s := scenario{workload: fault.Workload{Events: events, Pad: 200, Duplicates: 0.2}}
	s.Takes, s.Window = 100*time.Millisecond, 20
	return s
}

// Scenario 6: every connection of the consumers dies within one and a half seconds,
// those to the ledger too.
func TestConnectionChaos(t *testing.T) {
	s := faulty(1200) // in 60 slots: two seconds at least
	if soak() {
		s.workload.Events = 20_000
	}
	onStores(t, s, stores(), func(t *testing.T, s scenario) {
		proxies := throughProxies(t, &s)
		s.meanwhile = afflict(proxies, func(between *proxy.Proxy) { between.CutEvery(500*time.Millisecond, 1500*time.Millisecond) })
		_, report := s.run(t)
		require.NoError(t, report.Err())
		for _, between := range proxies {
			require.Positive(t, between.Stats().Cut)
		}
	})
}

// Scenario 5: three in ten answers get lost, confirms and marks among them, with the
// connection after them.
func TestLostAnswers(t *testing.T) {
	s := faulty(800)
	if soak() {
		s.workload.Events = 20_000
	}
	onStores(t, s, stores(), func(t *testing.T, s scenario) {
		proxies := throughProxies(t, &s)
		s.meanwhile = afflict(proxies, func(between *proxy.Proxy) {
			between.DropResponses(proxy.Drop{Fraction: 0.3, Spare: 40, Delay: 100 * time.Millisecond})
		})
		_, report := s.run(t)
		require.NoError(t, report.Err())
		for _, between := range proxies {
			require.Positive(t, between.Stats().Dropped)
		}
	})
}

// Scenario 11: the broker or the ledger's store is restarted in the middle, once in
// order and once by kill -9. These are every test's servers: run this alone, or
// on servers of your own (HAPAX_SERVERS_DIR).
func TestServerRestarts(t *testing.T) {
	servers.OnRequest(t, "HAPAX_SOAK", "it restarts the servers under every other test")
	for _, ledger := range []bool{false, true} {
		for name, hard := range map[string]bool{"clean": servers.Clean, "hard": servers.Hard} {
			t.Run(map[bool]string{false: "broker", true: "ledger"}[ledger]+" "+name, func(t *testing.T) {
				s := faulty(3000)
				s.gentle = ledger // its absence is waited for before the handler begins
				onStores(t, s, stores()[:3], func(t *testing.T, s scenario) {
					restarted := servers.RabbitMQ
					if ledger {
						restarted = s.store
					}
					s.meanwhile = func(ctx context.Context, r *run) error {
						if err := r.booked(ctx, int64(s.workload.Events/10)); err != nil {
							return err
						}
						return servers.Restart(context.WithoutCancel(ctx), restarted, hard)
					}
					r, report := s.run(t)
					require.NoError(t, report.Err())
					if ledger {
						require.NotEmpty(t, r.errs, "nobody has noticed")
					}
				})
			})
		}
	}
}
