package framework_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/internal/servers"
)

// A service refuses what doctor calls unsafe, before it takes a message, and starts
// when the config allows it by name.
func TestStartRefusesWhatIsUnsafe(t *testing.T) {
	const unsafe = "dedup: {window: 5s}\n"
	ship := func(context.Context, Order) error { return nil }

	service := newService(t, parse(t, unsafe))
	framework.Handle(service, "orders", ship)
	err := service.Run(t.Context())
	require.ErrorContains(t, err, `check dedup-window of orders: dedup.window is 5s`)
	require.ErrorContains(t, err, `add "dedup-window" to allow`)

	service = newService(t, parse(t, unsafe+"allow: [dedup-window]\n"))
	framework.Handle(service, "orders", ship)
	require.NoError(t, start(t, service)())
}

// What a worker marked and did not acknowledge before it died comes again when the
// broker's lease runs out: by then the mark must not have. Where a commit acknowledges
// too there is no such copy.
func TestStartComparesTheWindowWithTheBrokersLease(t *testing.T) {
	redis := "broker: redis\nredis: {addresses: [\"" + servers.Require(t, servers.Redis).Hosts[0] + "\"], lease: 1h}\n"
	for extra, lease := range map[string]string{
		"dedup: {window: 90m, strategy: consumer}\n":                                           "sqlite.lease",
		"dedup: {window: 90m}\nsql: {dsn: \"" + filepath.Join(t.TempDir(), "own.db") + "\"}\n": "sqlite.lease",
		"dedup: {window: 90m}\n":                             "",
		redis + "dedup: {window: 90m, strategy: consumer}\n": "redis.lease",
		redis + "dedup: {window: 90m}\nsql: {dsn: \"" + filepath.Join(t.TempDir(), "own.db") + "\"}\n": "redis.lease",
		redis + "dedup: {window: 90m}\n": "",
	} {
		cfg := parse(t, extra)
		cfg.SQLite.Lease = config.Duration(time.Hour)
		problem := ""
		for _, finding := range framework.Diagnose(t.Context(), cfg, slog.New(slog.DiscardHandler), map[string]string{"orders": "orders"}) {
			if finding.Name == "dedup-window" {
				require.Equal(t, !finding.OK(), finding.Fatal, extra)
				problem = finding.Problem
			}
		}
		if lease == "" {
			require.Empty(t, problem, extra)
			continue
		}
		require.Contains(t, problem, "dedup.window is 1h30m, but a copy may be handed out again 2h0m35s after the event was processed (twice "+lease+", ", extra)
	}
}

// Names in the config that no handler has are misspelt, or left over.
func TestStartChecksNames(t *testing.T) {
	cfg := parse(t, "handlers:\n  ordrs: {window: 2d}\ntopics: {ordrs: {name: a}, orders: {name: b}, shipments: {name: c}, orders.dead: {name: d}}\n")
	var log bytes.Buffer
	service, err := framework.New(t.Context(), cfg, framework.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	require.NoError(t, err)
	framework.Handle(service, "orders", func(context.Context, Order) (Shipment, error) { return Shipment{}, nil }, framework.To("shipments"))
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	err = service.Run(ctx)
	require.ErrorContains(t, err, `hapax.yaml:6:3: handlers.ordrs: no handler has this name, so the block has no effect: did you mean "orders"?`)
	require.Contains(t, log.String(), `hapax.yaml:7:10: topics.ordrs: no handler reads this topic or names it in To: did you mean`)
	require.Equal(t, 1, strings.Count(log.String(), "level=WARN"), log.String())
}

// All that is wrong with the handlers is told at once.
func TestStartNamesEveryWrongHandler(t *testing.T) {
	service := newService(t, parse(t, "handlers:\n  ordrs: {window: 2d}\n"))
	framework.Handle(service, "orders", func(Order) {})
	framework.Handle(service, "returns", nil)
	err := service.Run(t.Context())
	require.ErrorContains(t, err, `handler "orders" of topic "orders": adapt handler: `)
	require.ErrorContains(t, err, `handler "returns" of topic "returns": adapt handler: `)
	require.ErrorContains(t, err, `handlers.ordrs: no handler has this name`)
}

// A handler that runs for longer than RabbitMQ lets it have a message never finishes,
// wherever its timeout is said.
func TestStartRefusesATimeoutThatRabbitMQCutsShort(t *testing.T) {
	cfg := parse(t, "broker: rabbitmq\nrabbitmq: {url: \""+servers.Require(t, servers.RabbitMQ).URL+"\", consumer_timeout: 10m}\n")
	service := newService(t, cfg)
	ship := func(context.Context, Order) error { return nil }
	topic := fmt.Sprint("timeout-", time.Now().UnixNano())
	framework.Handle(service, topic, ship, framework.Name("slow"), framework.Timeout(10*time.Minute))
	framework.Handle(service, topic, ship, framework.Name("fast"), framework.Timeout(9*time.Minute))
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	err := service.Run(ctx)
	require.ErrorContains(t, err, `handler "slow" of topic "`+topic+`": framework.Timeout is 10m, expected less than rabbitmq.consumer_timeout (10m)`)
	require.NotContains(t, err.Error(), `handler "fast"`)
}

// Two services whose names and handlers' names put together are the same would share a
// consumer group, and each event would reach only one of them.
func TestStartRefusesAGroupOfAnotherService(t *testing.T) {
	own := parse(t, "")
	named := func(service, handler, extra string) *framework.Service {
		cfg, err := config.Parse("hapax.yaml", []byte("service: "+service+"\nsqlite: {path: \""+own.SQLitePath()+"\"}\nadmin: {enabled: false}\n"+extra), nil)
		require.NoError(t, err)
		s := newService(t, cfg)
		framework.Handle(s, "orders.created", func(context.Context, Order) error { return nil }, framework.Name(handler))
		return s
	}
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	err := named("shop.orders", "created", "").Run(ctx)
	require.ErrorContains(t, err, `check broker-group of shop.orders: consumer groups are called SERVICE.HANDLER, and with a dot in the service's name a handler of another service can have the same, such as "orders.created" of a service "shop": of a topic that both read, each event would reach only one of them`)
	require.ErrorContains(t, err, `add "broker-group" to allow`)

	// A service that has run under its name keeps it: under another one it would process
	// everything again.
	require.NoError(t, start(t, named("shop.orders", "created", "allow: [broker-group]\n"))())
	require.NoError(t, start(t, named("shop", "orders.created", ""))())
}
