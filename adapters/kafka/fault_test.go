package kafka_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/proxy"
)

// order is what a worker process is told.
type order struct {
	Name, Input, Output, Group string
	Brokers                    []string
	// Through is the address of a proxy to connect to instead.
	Through string
	// Plain turns deduplication off.
	Plain bool
	// Aborts is the fraction of transactions that fail before their offsets.
	Aborts float64
	// Slow is how long a handler runs.
	Slow time.Duration
	// ServerSide: the group protocol of KIP-848.
	ServerSide bool
	MaxTime    time.Duration
}

func (o order) config() kafka.Config {
	config := fast(o.Brokers)
	config.ServerSideGroups = o.ServerSide
	config.MaxTime = max(o.MaxTime, 20*time.Millisecond)
	if o.Through != "" {
		kafka.Through(&config, o.Through)
		// A connection lives for a second: the group must outlast it.
		config.SessionTimeout, config.TransactionTimeout = 10*time.Second, 6*time.Second
	}
	return config
}

// service runs a Router around a handler that passes its event on, until ctx ends.
func service(ctx context.Context, o order, delivered func(fault.Delivery)) error {
	broker, err := kafka.Open(ctx, o.config())
	if err != nil {
		return err
	}
	defer func() { _ = broker.Close() }()
	scope := dedup.Scope{Service: "test", Handler: o.Group}
	var strategy dedup.Strategy = dedup.Plain{Publisher: broker.Publisher()}
	if !o.Plain {
		strategy, err = broker.Strategy(dedup.StrategyTransaction, adapters.StrategyOptions{Scope: scope, Group: o.Group, Window: time.Hour})
		if err != nil {
			return err
		}
	}
	once, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
	if err != nil {
		return err
	}
	subscriber, err := broker.Subscriber(adapters.Subscription{
		Group: o.Group, Window: 200, RedeliveryDelay: 10 * time.Millisecond, DrainTimeout: 5 * time.Second, MaxDeliveries: -1,
	})
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 10 * time.Second}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	router.AddHandler("pass", o.Input, subscriber, o.Output, broker.Publisher(), func(msg *message.Message) ([]*message.Message, error) {
		var event fault.Event
		if err := json.Unmarshal(msg.Payload, &event); err != nil {
			return nil, err
		}
		copied := 0
		if msg.Metadata.Get("copy") == "1" {
			copied = 1
		}
		delivered(fault.Delivery{ID: event.ID, Copy: copied, Consumer: o.Name})
		if o.Slow > 0 {
			select {
			case <-time.After(o.Slow):
			case <-msg.Context().Done():
				return nil, msg.Context().Err()
			}
		}
		effect, err := json.Marshal(fault.Effect{ID: event.ID, Key: event.Key, Seq: event.Seq, Consumer: o.Name})
		return []*message.Message{message.NewMessage("", effect)}, err
	}).AddMiddleware(once.Wrap)
	go func() {
		<-router.Running()
		_ = fault.Ready(ctx)
	}()
	err = router.Run(ctx)
	return errors.Join(err, router.Close())
}

// worker is the child process.
func worker(ctx context.Context, args []string) int {
	var o order
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		fmt.Println(err)
		return 2
	}
	if o.Aborts > 0 {
		failpoint.Arm(failpoint.AfterPublish, func() error {
			if rand.Float64() < o.Aborts {
				return errors.New("aborted at random")
			}
			return nil
		})
	}
	err := service(ctx, o, func(d fault.Delivery) { _ = fault.Emit(ctx, d) })
	if err != nil && ctx.Err() == nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// scenario is a run with faults.
type scenario struct {
	workload   fault.Workload
	plan       fault.Plan
	members    int
	partitions int32
	order      order
	failpoints func(number int) string
	proxy      func(*proxy.Proxy)
	calm       bool // nothing need be delivered again
}

// load scales scenarios: HAPAX_SOAK=1 runs them at full length.
func load(events int) int {
	if os.Getenv("HAPAX_SOAK") != "" {
		return events * 20
	}
	return events
}

// run runs the scenario and judges what an independent reader finds.
func (s scenario) run(t *testing.T, brokers []string) fault.Report {
	t.Helper()
	o := s.order
	o.Brokers, o.Input, o.Group = brokers, newTopic(t), "group"
	o.Output = o.Input + ".out"
	config := fast(brokers)
	config.Partitions = max(s.partitions, 1)
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	for _, topic := range []string{o.Input, o.Output} {
		subscriber, err := broker.Subscriber(adapters.Subscription{Group: "maker"})
		require.NoError(t, err)
		require.NoError(t, subscriber.(message.SubscribeInitializer).SubscribeInitialize(topic))
	}
	if s.proxy != nil {
		p, err := proxy.Listen(brokers[0], s.plan.Seed)
		require.NoError(t, err)
		defer p.Close()
		s.proxy(p)
		o.Through = p.Addr()
	}

	reader := newReader(t, brokers, o.Output)
	var mu sync.Mutex
	var deliveries []fault.Delivery
	fleet := fault.NewFleet(func(number int) fault.Command {
		o := o
		o.Name = fmt.Sprint("consumer-", number)
		args, _ := json.Marshal(o)
		command := fault.Command{Name: o.Name, Role: "worker", Args: []string{string(args)}, OnEvent: func(data json.RawMessage) {
			var d fault.Delivery
			if json.Unmarshal(data, &d) == nil {
				mu.Lock()
				deliveries = append(deliveries, d)
				mu.Unlock()
			}
		}}
		if os.Getenv("HAPAX_LOG") != "" {
			command.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
		}
		if s.failpoints != nil {
			command.Failpoints = s.failpoints(number)
		}
		return command
	}, quiet)
	defer func() { _ = fleet.Close() }()

	// Sent before and while it is handled.
	sent := &fault.Sent{}
	sending := make(chan error, 1)
	go func() { sending <- send(broker.Publisher(), o.Input, s.workload, sent) }()
	if err := fleet.Start(within(t, time.Minute), max(s.members, 1)); err != nil {
		require.NoError(t, errors.Join(err, fleet.Err()))
	}
	runner := fault.Runner{Fleet: fleet, Plan: s.plan, Progress: func(context.Context) (int64, error) { return reader.count(), nil }}
	_, err = runner.Run(within(t, 3*time.Minute))
	require.NoError(t, err)
	require.NoError(t, <-sending)
	earlier := reader.effects()

	left, err := fault.Drain(within(t, time.Minute), func(ctx context.Context) (map[string]int64, error) {
		lag, err := broker.Lag(ctx, o.Group, o.Input)
		return map[string]int64{"lag": lag}, err
	})
	require.NoError(t, err)
	require.NoError(t, fleet.Shutdown(15*time.Second))
	require.NoError(t, fleet.Err())
	reader.settle(t)
	mu.Lock()
	defer mu.Unlock()
	report := fault.Check(fault.Observation{
		Expected: sent.Expected(), Effects: reader.effects(), Earlier: earlier,
		Deliveries: deliveries, Left: left, Counts: fleet.Counts(), Unordered: o.Plain, MayNotRedeliver: s.calm,
	})
	t.Logf("%d sends, %d events, %d deliveries, %d redeliveries, %d effects, %d kills, %d pauses, %d joins, %d leaves, duplicate effects %d, lost %d",
		sent.Sends(), report.Events, report.Deliveries, report.Redeliveries, report.Effects, report.Kills, report.Pauses, report.Joins, report.Leaves, report.DuplicateEffects, report.Lost)
	if report.DuplicateEffects > 0 && !o.Plain {
		by := map[string][]string{}
		for _, effect := range reader.effects() {
			by[effect.ID] = append(by[effect.ID], fmt.Sprintf("%s at %d", effect.Consumer, effect.Position))
		}
		for id, consumers := range by {
			if len(consumers) > 1 {
				t.Logf("%s: %v", id, consumers)
			}
		}
	}
	return report
}

func within(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// send publishes a workload in its order.
func send(publisher message.Publisher, topic string, workload fault.Workload, sent *fault.Sent) error {
	var batch []*message.Message
	var events []fault.Event
	flush := func() error {
		if err := publisher.Publish(topic, batch...); err != nil {
			return err
		}
		for _, event := range events {
			sent.Record(event, fault.SendOK)
		}
		batch, events = nil, nil
		return nil
	}
	for s := range workload.Sends() {
		payload, err := json.Marshal(s.Event)
		if err != nil {
			return err
		}
		msg := message.NewMessage(watermill.NewUUID(), payload)
		msg.Metadata.Set(dedup.MetaEventID, s.ID)
		msg.Metadata.Set(dedup.MetaKey, s.Key)
		msg.Metadata.Set("copy", fmt.Sprint(s.Copy))
		batch, events = append(batch, msg), append(events, s.Event)
		if len(batch) == 200 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// reader reads a topic with read_committed and nothing else in between.
type reader struct {
	client *kgo.Client
	topic  string
	mu     sync.Mutex
	found  []fault.Effect
	ends   map[int32]int64
}

func newReader(t *testing.T, brokers []string, topic string) *reader {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	r := &reader{client: client, topic: topic, ends: map[int32]int64{}}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			fetches := client.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			r.mu.Lock()
			fetches.EachRecord(func(record *kgo.Record) {
				r.ends[record.Partition] = record.Offset + 1
				var effect fault.Effect
				if !record.Attrs.IsControl() && json.Unmarshal(record.Value, &effect) == nil {
					effect.Position = int64(len(r.found))
					r.found = append(r.found, effect)
				}
			})
			r.mu.Unlock()
		}
	})
	t.Cleanup(func() { client.Close(); done.Wait() })
	return r
}

func (r *reader) count() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int64(len(r.found))
}

func (r *reader) effects() []fault.Effect {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]fault.Effect{}, r.found...)
}

// settle waits until everything written was read: no transaction stays open, and
// no partition's last stable offset stays behind.
func (r *reader) settle(t *testing.T) {
	t.Helper()
	admin := kafka.Admin(r.client)
	require.Eventually(t, func() bool {
		ends, err := admin.ListEndOffsets(t.Context(), r.topic)
		require.NoError(t, err)
		stable, err := admin.ListCommittedOffsets(t.Context(), r.topic)
		require.NoError(t, err)
		r.mu.Lock()
		defer r.mu.Unlock()
		for number, end := range ends[r.topic] {
			if last, _ := stable.Lookup(r.topic, number); last.Offset != end.Offset || end.Offset > r.ends[number] {
				return false
			}
		}
		return true
	}, 30*time.Second, 20*time.Millisecond, "an open transaction holds the last stable offset")
}

var small = fault.Workload{Seed: 7, Events: load(2000), Keys: 50, Duplicates: 0.2}

// Acceptance scenario 1: consumers are killed in the middle of their work.
func TestKilledConsumers(t *testing.T) {
	t.Parallel()
	brokers := realKafka(t)
	s := scenario{
		workload: small, members: 3, partitions: 6, order: order{Slow: time.Millisecond},
		plan: fault.Plan{Seed: 7, Effects: int64(small.Events) * 9 / 10, Strikes: []fault.Strike{{Action: fault.ActionKill, EveryEffects: int64(small.Events) / 6, Jitter: 0.3}}},
	}
	once := s.run(t, brokers)
	s.order.Plain = true
	plain := s.run(t, brokers)
	require.NoError(t, fault.Verdict(once, plain))
}

// Acceptance scenario 2: a third of the transactions abort.
func TestAbortedTransactions(t *testing.T) {
	t.Parallel()
	s := scenario{
		workload: small, members: 2, partitions: 12, order: order{Aborts: 0.33},
		plan: fault.Plan{Seed: 8, Effects: int64(small.Events) * 9 / 10, Strikes: []fault.Strike{{Action: fault.ActionKill, EveryEffects: int64(small.Events) / 3, Jitter: 0.3}}},
	}
	require.NoError(t, s.run(t, realKafka(t)).Err())
}

// Acceptance scenario 3: members come and go. With the groups of KIP-848 nobody is
// killed: leaving in order is what differs there.
func TestRebalanceChurn(t *testing.T) {
	t.Parallel()
	for _, serverSide := range []bool{false, true} {
		t.Run(fmt.Sprintf("server side %t", serverSide), func(t *testing.T) {
			strikes := []fault.Strike{
				{Action: fault.ActionJoin, EveryEffects: int64(small.Events) / 8, Jitter: 0.5},
				{Action: fault.ActionLeave, EveryEffects: int64(small.Events) / 8, Jitter: 0.5},
			}
			if !serverSide {
				strikes = append(strikes, fault.Strike{Action: fault.ActionKill, EveryEffects: int64(small.Events) / 3, Jitter: 0.5})
			}
			s := scenario{
				workload: small, members: 3, partitions: 12, order: order{Slow: 2 * time.Millisecond, ServerSide: serverSide},
				calm: serverSide,
				plan: fault.Plan{Seed: 9, Effects: int64(small.Events) * 9 / 10, Min: 2, Max: 6, Strikes: strikes},
			}
			require.NoError(t, s.run(t, realKafka(t)).Err())
		})
	}
}

// Acceptance scenario 4: a consumer stands still for twice its session, and wakes.
func TestZombies(t *testing.T) {
	t.Parallel()
	s := scenario{
		workload: small, members: 3, partitions: 6, order: order{Slow: 5 * time.Millisecond},
		plan: fault.Plan{Seed: 10, Effects: int64(small.Events) * 9 / 10, Strikes: []fault.Strike{{Action: fault.ActionPause, EveryEffects: int64(small.Events) / 4, Jitter: 0.3, For: 3 * time.Second}}},
	}
	require.NoError(t, s.run(t, realKafka(t)).Err())
}

// Acceptance scenario 5: answers get lost, those of commits too.
func TestUnknownOutcomes(t *testing.T) {
	t.Parallel()
	s := scenario{
		workload: small, members: 2, partitions: 4, order: order{},
		plan: fault.Plan{Seed: 11, Effects: int64(small.Events) * 9 / 10, Strikes: []fault.Strike{{Action: fault.ActionKill, EveryEffects: int64(small.Events) / 2, Jitter: 0.3}}},
		proxy: func(p *proxy.Proxy) {
			p.DropResponses(proxy.Drop{Fraction: 0.03, Spare: 6, Delay: 50 * time.Millisecond})
		},
	}
	require.NoError(t, s.run(t, realKafka(t)).Err())
}

// Acceptance scenario 6: connections live for a second.
func TestConnectionChaos(t *testing.T) {
	t.Parallel()
	s := scenario{
		workload: small, members: 2, partitions: 4, order: order{Slow: 5 * time.Millisecond},
		plan:  fault.Plan{Seed: 12, Effects: int64(small.Events) * 9 / 10, Strikes: []fault.Strike{{Action: fault.ActionKill, EveryEffects: int64(small.Events) / 2, Jitter: 0.3}}},
		proxy: func(p *proxy.Proxy) { p.CutEvery(500*time.Millisecond, 1500*time.Millisecond) },
	}
	require.NoError(t, s.run(t, realKafka(t)).Err())
}

// Acceptance scenario 7: a crash at every named point.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	brokers := realKafka(t)
	for _, point := range []failpoint.Point{
		failpoint.AfterClaim, failpoint.AfterHandle, failpoint.BeforePublish, failpoint.AfterPublish,
		failpoint.BeforeMark, failpoint.AfterMark, failpoint.BeforeAck, failpoint.AfterAck,
	} {
		t.Run(string(point), func(t *testing.T) {
			s := scenario{
				workload: fault.Workload{Seed: 13, Events: 150, Keys: 10, Duplicates: 0.2}, members: 1, partitions: 2, order: order{Slow: time.Millisecond},
				plan: fault.Plan{Seed: 13},
				failpoints: func(number int) string {
					if number > 2 {
						return ""
					}
					return fmt.Sprintf("%s@%d", point, number*2)
				},
			}
			report := s.run(t, brokers)
			require.NoError(t, report.Err())
			require.Equal(t, 2, report.Kills, "the point was not reached")
		})
	}
}
