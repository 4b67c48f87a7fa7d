package redis_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/proxy"
	"github.com/hapax-go/hapax/internal/servers"
)

const (
	faultGroup = "fulfilment"
	lease      = 2 * time.Second
)

// worker is a consumer process: a Router whose handler makes one output of every
// event. Its arguments: address, input, output, claim (or none), the handler's
// time.
func worker(ctx context.Context, args []string) int {
	if err := work(ctx, args); err != nil && ctx.Err() == nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func work(ctx context.Context, args []string) (err error) {
	address, in, out, claim := args[0], args[1], args[2], args[3]
	takes, err := time.ParseDuration(args[4])
	if err != nil {
		return err
	}
	broker, err := openUntil(ctx, redis.Config{Addresses: []string{address}, Lease: lease, Timeout: 2 * time.Second})
	if err != nil {
		return err
	}
	defer broker.Close()
	subscriber, err := broker.Subscriber(adapters.Subscription{
		Group: faultGroup, Window: 100, RedeliveryDelay: 10 * time.Millisecond, DrainTimeout: 5 * time.Second, MaxDeliveries: 1000,
	})
	if err != nil {
		return err
	}
	scope := dedup.Scope{Service: in, Handler: "ship"}
	strategy := dedup.Strategy(dedup.Plain{Publisher: broker.Publisher()})
	if claim != "none" {
		strategy, err = broker.Strategy(dedup.StrategyXAck, adapters.StrategyOptions{Scope: scope, Group: faultGroup, Window: time.Hour, Claim: dedup.ClaimKind(claim)})
		if err != nil {
			return err
		}
	}
	deduplicate, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy, InFlightWait: time.Second})
	if err != nil {
		return err
	}
	router := message.NewDefaultRouter(watermill.NopLogger{})
	router.AddHandler("ship", in, subscriber, out, broker.Publisher(), func(msg *message.Message) ([]*message.Message, error) {
		copied, _ := strconv.Atoi(msg.Metadata.Get("copy"))
		_ = fault.Emit(ctx, fault.Delivery{ID: msg.UUID, Copy: copied, Attempt: adapters.DeliveryFrom(msg.Context()).Attempt})
		select {
		case <-time.After(takes):
		case <-msg.Context().Done():
			return nil, context.Cause(msg.Context())
		}
		return []*message.Message{message.NewMessage("", msg.Payload)}, nil
	}).AddMiddleware(middleware.Recoverer, deduplicate.Wrap)
	go func() { <-ctx.Done(); _ = router.Close() }()
	go func() { <-router.Running(); _ = fault.Ready(ctx) }()
	return router.Run(context.WithoutCancel(ctx))
}

// openUntil opens a broker, however long that takes: the network is not to be
// trusted here.
func openUntil(ctx context.Context, config redis.Config) (*redis.Broker, error) {
	config.Logger = slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelError}))
	for {
		broker, err := redis.Open(ctx, config)
		if err == nil || ctx.Err() != nil {
			return broker, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// scenario is a run of consumers under faults.
type scenario struct {
	server     string // default: the shared one
	through    string // the address that the consumers are given; default: server
	claim      string
	consumers  int
	workload   fault.Workload
	takes      time.Duration
	plan       fault.Plan
	hooks      map[fault.Action]func(context.Context, fault.Step) error
	failpoints func(n int) string
	mild       bool // the faults need not cause redeliveries
	unordered  bool
}

func (s scenario) run(t *testing.T) fault.Report {
	t.Helper()
	if s.server == "" {
		s.server = servers.Require(t, servers.Redis).Hosts[0]
	}
	if s.through == "" {
		s.through = s.server
	}
	client := goredis.NewClient(&goredis.Options{Addr: s.server, MaxRetries: 20})
	defer client.Close()
	broker, err := openUntil(t.Context(), redis.Config{Addresses: []string{s.server}, Logger: quiet})
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	in, out := newTopic(t), newTopic(t)
	require.NoError(t, client.XGroupCreateMkStream(t.Context(), in, faultGroup, "0").Err())

	var sent fault.Sent
	for send := range s.workload.Sends() {
		payload, err := json.Marshal(send.Event)
		require.NoError(t, err)
		msg := message.NewMessage(send.ID, payload)
		msg.Metadata.Set(dedup.MetaKey, send.Key)
		msg.Metadata.Set("copy", strconv.Itoa(send.Copy))
		require.NoError(t, broker.Publisher().Publish(in, msg))
		sent.Record(send.Event, fault.SendOK)
	}

	var mu sync.Mutex
	var deliveries []fault.Delivery
	fleet := fault.NewFleet(func(n int) fault.Command {
		command := fault.Command{
			Name: fmt.Sprintf("consumer-%d", n), Role: "worker", Args: []string{s.through, in, out, s.claim, s.takes.String()},
			OnEvent: func(data json.RawMessage) {
				var d fault.Delivery
				if json.Unmarshal(data, &d) == nil {
					mu.Lock()
					deliveries = append(deliveries, d)
					mu.Unlock()
				}
			},
		}
		if s.failpoints != nil {
			command.Failpoints = s.failpoints(n)
		}
		return command
	}, slog.New(slog.DiscardHandler))
	defer func() { require.NoError(t, fleet.Close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	require.NoError(t, fleet.Start(ctx, s.consumers))
	if len(s.plan.Strikes) > 0 {
		runner := fault.Runner{Fleet: fleet, Plan: s.plan, Hooks: s.hooks, Progress: func(ctx context.Context) (int64, error) {
			length, err := client.XLen(ctx, out).Result()
			if err != nil {
				return 0, nil //nolint:nilerr // the server may be down, on purpose
			}
			return length, nil
		}}
		_, err := runner.Run(ctx)
		require.NoError(t, err)
	}
	earlier, err := outputs(ctx, client, out)
	require.NoError(t, err)
	left, err := fault.Drain(ctx, func(ctx context.Context) (map[string]int64, error) {
		groups, err := broker.Stats(ctx, in)
		if err != nil || len(groups) != 1 {
			return nil, fmt.Errorf("%d groups: %w", len(groups), err)
		}
		return map[string]int64{"backlog": groups[0].Backlog, "pending": groups[0].Pending}, nil
	})
	require.NoError(t, err)
	require.NoError(t, fleet.Shutdown(30*time.Second))
	require.NoError(t, fleet.Err())
	observation := fault.Observation{
		Expected: sent.Expected(), Earlier: earlier, Left: left, Counts: fleet.Counts(), Deliveries: deliveries,
		MayNotRedeliver: s.mild, Unordered: s.unordered,
	}
	observation.Effects, err = outputs(ctx, client, out)
	require.NoError(t, err)
	report := fault.Check(observation)
	t.Logf("%d events, %d effects, %d deliveries, %d redeliveries, %d kills; duplicates %d, lost %d",
		report.Events, report.Effects, report.Deliveries, report.Redeliveries, report.Kills, report.DuplicateEffects, report.Lost)
	return report
}

// outputs reads a stream without the adapter.
func outputs(ctx context.Context, client *goredis.Client, topic string) ([]fault.Effect, error) {
	entries, err := client.XRange(ctx, topic, "-", "+").Result()
	if err != nil {
		return nil, err
	}
	effects := make([]fault.Effect, len(entries))
	for i, entry := range entries {
		var event fault.Event
		if err := json.Unmarshal([]byte(entry.Values["payload"].(string)), &event); err != nil {
			return nil, err
		}
		effects[i] = fault.Effect{ID: event.ID, Key: event.Key, Seq: event.Seq, Position: int64(i)}
	}
	return effects, nil
}

var claims = []string{string(dedup.Optimistic), string(dedup.Pessimistic)}

func kills(every int64, effects int64) fault.Plan {
	return fault.Plan{Seed: 7, Effects: effects, Strikes: []fault.Strike{{Action: fault.ActionKill, EveryEffects: every, Jitter: 0.3}}}
}

// Scenario 1, and its control run.
func TestKilledConsumers(t *testing.T) {
	s := scenario{
		consumers: 3, takes: time.Millisecond, plan: kills(300, 2000),
		workload: fault.Workload{Seed: 1, Events: 2500, Keys: 64, Duplicates: 0.2},
	}
	if os.Getenv("HAPAX_SOAK") == "1" {
		s.workload.Events, s.workload.Keys = 100_000, 500
		s.plan = fault.Plan{Seed: 7, Duration: time.Minute, Strikes: []fault.Strike{{Action: fault.ActionKill, Every: 2 * time.Second}}}
		s.takes = 5 * time.Millisecond
	}
	for _, claim := range claims {
		t.Run(claim, func(t *testing.T) {
			s.claim = claim
			require.NoError(t, s.run(t).Err())
		})
	}
	t.Run("control", func(t *testing.T) {
		s.claim = "none"
		require.NoError(t, fault.Control(s.run(t)))
	})
}

// Scenario 4.
func TestFrozenConsumers(t *testing.T) {
	for _, claim := range claims {
		t.Run(claim, func(t *testing.T) {
			require.NoError(t, scenario{
				claim: claim, consumers: 3, takes: 5 * time.Millisecond, workload: fault.Workload{Seed: 2, Events: 1500, Duplicates: 0.1},
				plan: fault.Plan{Seed: 3, Effects: 1400, Strikes: []fault.Strike{{Action: fault.ActionPause, EveryEffects: 350, For: 2 * lease}}},
			}.run(t).Err())
		})
	}
}

// Scenario 5.
func TestLostAnswers(t *testing.T) {
	for _, claim := range claims {
		t.Run(claim, func(t *testing.T) {
			through := listen(t, servers.Require(t, servers.Redis).Hosts[0])
			through.DropResponses(proxy.Drop{Fraction: 0.3, Delay: 20 * time.Millisecond})
			through.DelayResponses(0.1, time.Millisecond, 100*time.Millisecond)
			report := scenario{
				claim: claim, through: through.Addr(), consumers: 2, workload: fault.Workload{Seed: 4, Events: 1000, Duplicates: 0.1}, mild: true,
			}.run(t)
			require.NoError(t, report.Err())
			t.Logf("%+v", through.Stats())
			require.Greater(t, through.Stats().Dropped, int64(10))
		})
	}
}

// Scenario 6.
func TestCutConnections(t *testing.T) {
	through := listen(t, servers.Require(t, servers.Redis).Hosts[0])
	through.CutEvery(100*time.Millisecond, 400*time.Millisecond)
	report := scenario{
		claim: "optimistic", through: through.Addr(), consumers: 2, takes: 40 * time.Millisecond,
		workload: fault.Workload{Seed: 5, Events: 2000, Duplicates: 0.1}, mild: true,
	}.run(t)
	require.NoError(t, report.Err())
	require.Greater(t, through.Stats().Cut, int64(10))
}

func listen(t *testing.T, upstream string) *proxy.Proxy {
	through, err := proxy.Listen(upstream, 11)
	require.NoError(t, err)
	t.Cleanup(through.Close)
	return through
}

// Scenario 7: killed at each point of the processing order.
func TestKilledAtEveryPoint(t *testing.T) {
	for _, point := range []failpoint.Point{
		failpoint.AfterClaim, failpoint.AfterHandle, failpoint.BeforeMark, failpoint.AfterMark, failpoint.BeforeAck, failpoint.AfterAck,
	} {
		for _, claim := range claims {
			t.Run(string(point)+", "+claim, func(t *testing.T) {
				t.Parallel()
				report := scenario{
					claim: claim, consumers: 1, workload: fault.Workload{Seed: 6, Events: 100, Keys: 9, Duplicates: 0.4}, mild: true,
					failpoints: func(n int) string {
						if n > 2 {
							return ""
						}
						return fmt.Sprintf("%s@%d", point, 5*n)
					},
				}.run(t)
				require.NoError(t, report.Err())
				require.EqualValues(t, 2, report.Kills, "killed at the point")
			})
		}
	}
}

// Scenario 11. With appendfsync always a kill loses nothing that was confirmed.
func TestServerRestarts(t *testing.T) {
	for name, signal := range map[string]os.Signal{"clean": os.Interrupt, "hard": os.Kill} {
		t.Run(name, func(t *testing.T) {
			server := startServer(t, "--appendonly", "yes", "--appendfsync", "always")
			const restart fault.Action = "restart"
			report := scenario{
				server: server.address, claim: "optimistic", consumers: 3, takes: 5 * time.Millisecond, mild: true,
				workload: fault.Workload{Seed: 8, Events: 1500, Duplicates: 0.1},
				plan:     fault.Plan{Seed: 9, Effects: 1300, Strikes: []fault.Strike{{Action: restart, EveryEffects: 400}}},
				hooks: map[fault.Action]func(context.Context, fault.Step) error{restart: func(context.Context, fault.Step) error {
					server.stop(t, signal)
					server.start(t)
					return nil
				}},
			}.run(t)
			require.NoError(t, report.Err())
		})
	}
}

// Scenario 9.
func TestConcurrentCopies(t *testing.T) {
	report := scenario{
		claim: "optimistic", consumers: 4, workload: fault.Workload{Seed: 10, Events: 1000, Keys: 1000, Duplicates: 1, Window: 10}, mild: true,
	}.run(t)
	require.NoError(t, report.Err())
}
