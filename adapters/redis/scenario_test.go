package redis_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/servers"
)

func sharedURL(t *testing.T) string {
	return "redis://" + servers.Require(t, servers.Redis).Hosts[0]
}

// freezeAtWork freezes a consumer that has deliveries in flight; in a fleet that loses
// none.
const freezeAtWork fault.Action = "freeze at work"

// scenario is a run of consumers under faults.
type scenario struct {
	server     string // URL; default: that of the shared server
	through    string // the URL that the consumers are given; default: server
	claim      string
	consumers  int
	workload   fault.Workload
	takes      time.Duration
	plan       fault.Plan
	hooks      map[fault.Action]func(context.Context, fault.Step) error
	failpoints func(n int) string
	mild       bool // the faults need not cause redeliveries
	unordered  bool
	// in and out are the streams; default: new names.
	in, out string
	// absorbing reads the outputs as the next consumer would, who passes over copies.
	absorbing bool
}

func (s scenario) run(t *testing.T) fault.Report {
	t.Helper()
	if s.server == "" {
		s.server = sharedURL(t)
	}
	if s.through == "" {
		s.through = s.server
	}
	config, err := redis.ParseURL(s.server)
	require.NoError(t, err)
	client, err := redis.Connect(t.Context(), config)
	require.NoError(t, err)
	defer client.Close()
	broker, err := openUntil(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	in, out := s.in, s.out
	if in == "" {
		in, out = newTopic(t), newTopic(t)
	}
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
	var last atomic.Uint64 // who began last
	fleet := fault.NewFleet(func(n int) fault.Command {
		command := fault.Command{
			Name: fmt.Sprintf("consumer-%d", n), Role: "worker", Args: []string{s.through, in, out, s.claim, s.takes.String()},
			OnEvent: func(data json.RawMessage) {
				var d fault.Delivery
				if json.Unmarshal(data, &d) == nil {
					last.Store(uint64(n))
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
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	require.NoError(t, fleet.Start(ctx, s.consumers))
	if len(s.plan.Strikes) > 0 {
		var freezes errgroup.Group
		hooks := map[fault.Action]func(context.Context, fault.Step) error{
			freezeAtWork: func(_ context.Context, step fault.Step) error {
				target := last.Load() - 1 // it has many keys, with many events each
				freezes.Go(func() error { return fleet.Pause(ctx, target, step.For) })
				return nil
			},
		}
		maps.Copy(hooks, s.hooks)
		runner := fault.Runner{Fleet: fleet, Plan: s.plan, Hooks: hooks, Progress: func(ctx context.Context) (int64, error) {
			length, err := client.XLen(ctx, out).Result()
			if err != nil {
				return 0, nil //nolint:nilerr // the server may be down, on purpose
			}
			return length, nil
		}}
		_, err := runner.Run(ctx)
		require.NoError(t, errors.Join(err, freezes.Wait()))
	}
	var earlier []fault.Effect
	require.Eventually(t, func() bool { // the server may be coming back
		earlier, err = outputs(ctx, client, out, s.absorbing)
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
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
	observation.Effects, err = outputs(ctx, client, out, s.absorbing)
	require.NoError(t, err)
	report := fault.Check(observation)
	t.Logf("%d events, %d effects, %d deliveries, %d redeliveries, %d kills; duplicates %d, lost %d",
		report.Events, report.Effects, report.Deliveries, report.Redeliveries, report.Kills, report.DuplicateEffects, report.Lost)
	return report
}

// outputs reads a stream without the adapter.
func outputs(ctx context.Context, client goredis.UniversalClient, topic string, absorbing bool) ([]fault.Effect, error) {
	entries, err := client.XRange(ctx, topic, "-", "+").Result()
	if err != nil {
		return nil, err
	}
	var effects []fault.Effect
	seen := map[string]bool{}
	for i, entry := range entries {
		msg, err := redisstream.DefaultMarshallerUnmarshaller{}.Unmarshal(entry.Values)
		if err != nil {
			return nil, err
		}
		id := msg.Metadata.Get(dedup.MetaEventID)
		if absorbing && seen[id] {
			continue
		}
		seen[id] = true
		var event fault.Event
		if err := json.Unmarshal(msg.Payload, &event); err != nil {
			return nil, err
		}
		effects = append(effects, fault.Effect{ID: event.ID, Key: event.Key, Seq: event.Seq, Position: int64(i)})
	}
	return effects, nil
}
