package kafka_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/proxy"
)

// scenario is a run with faults.
type scenario struct {
	workload   fault.Workload
	plan       fault.Plan
	members    int
	partitions int32
	order      order
	failpoints func(number int) string
	proxy      func(*proxy.Proxy)
	hooks      map[fault.Action]func(context.Context, fault.Step) error
	copies     int  // of each event, without a key, sent at once; 0: what the workload says
	stages     int  // more than one: a chain
	calm       bool // nothing need be delivered again
}

// kills reports whether consumers are to die.
func (s scenario) kills() bool {
	return slices.ContainsFunc(s.plan.Strikes, func(strike fault.Strike) bool { return strike.Action == fault.ActionKill })
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
	o.Brokers, o.Input = brokers, newTopic(t)
	o.Group = "group" + o.Input // of its own: members of another protocol, or that stand still, belong to other scenarios
	o.Output = o.Input + ".out"
	for stage := range max(s.stages-1, 0) {
		o.Via = append(o.Via, fmt.Sprint(o.Input, ".via-", stage))
	}
	config := fast(brokers)
	config.Partitions = max(s.partitions, 1)
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	for _, topic := range append([]string{o.Input, o.Output}, o.Via...) {
		subscriber, err := broker.Subscriber(adapters.Subscription{Group: "maker"})
		require.NoError(t, err)
		require.NoError(t, subscriber.(message.SubscribeInitializer).SubscribeInitialize(topic))
	}
	if s.proxy != nil {
		o.Through = map[string]string{}
		for _, address := range brokers {
			p, err := proxy.Listen(address, s.plan.Seed)
			require.NoError(t, err)
			defer p.Close()
			s.proxy(p)
			o.Through[address] = p.Addr()
		}
	}

	last := newReader(t, brokers, o.Output)
	var between []*reader
	for _, topic := range o.Via {
		between = append(between, newReader(t, brokers, topic))
	}
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
		switch {
		case s.failpoints != nil:
			command.Failpoints = s.failpoints(number)
		case s.kills() && number == 1:
			// A kill that the plan times may find nobody at work. This one does not.
			command.Failpoints = fmt.Sprintf("%s@20", failpoint.AfterHandle)
		}
		return command
	}, quiet)
	defer func() { _ = fleet.Close() }()

	// Sent before and while it is handled.
	sent := &fault.Sent{}
	sending := make(chan error, 1)
	go func() { sending <- s.send(broker.Publisher(), o.Input, sent) }()
	if err := fleet.Start(within(t, time.Minute), max(s.members, 1)); err != nil {
		require.NoError(t, errors.Join(err, fleet.Err()))
	}
	runner := fault.Runner{Fleet: fleet, Plan: s.plan, Hooks: s.hooks, Progress: func(context.Context) (int64, error) { return last.count(), nil }}
	_, err = runner.Run(within(t, 3*time.Minute))
	require.NoError(t, err)
	require.NoError(t, <-sending)
	earlier := last.effects()

	left, err := fault.Drain(within(t, 3*time.Minute), func(ctx context.Context) (map[string]int64, error) {
		left := map[string]int64{}
		for stage, topic := range append([]string{o.Input}, o.Via...) {
			lag, err := broker.Lag(ctx, o.group(stage), topic)
			if err != nil {
				return nil, err
			}
			left["lag of "+topic] = lag
		}
		return left, nil
	})
	require.NoError(t, err)
	require.NoError(t, fleet.Shutdown(15*time.Second))
	require.NoError(t, fleet.Err())
	last.settle(t)
	for _, r := range between {
		r.settle(t)
		require.NoError(t, fault.Check(fault.Observation{
			Expected: sent.Expected(), Effects: r.effects(), Left: left, Counts: fleet.Counts(), MayNotRedeliver: true,
		}).Err(), "stage that writes %s", r.topic)
	}
	mu.Lock()
	defer mu.Unlock()
	report := fault.Check(fault.Observation{
		Expected: sent.Expected(), Effects: last.effects(), Earlier: earlier,
		Deliveries: deliveries, Left: left, Counts: fleet.Counts(), Unordered: o.Plain || s.copies > 0, MayNotRedeliver: s.calm,
	})
	t.Logf("%d sends, %d events, %d deliveries, %d redeliveries, %d effects, %d kills, %d pauses, %d joins, %d leaves, duplicate effects %d, lost %d",
		sent.Sends(), report.Events, report.Deliveries, report.Redeliveries, report.Effects, report.Kills, report.Pauses, report.Joins, report.Leaves, report.DuplicateEffects, report.Lost)
	if report.DuplicateEffects > 0 && !o.Plain {
		by := map[string][]string{}
		for _, effect := range last.effects() {
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

func (s scenario) send(publisher message.Publisher, topic string, sent *fault.Sent) error {
	if s.copies == 0 {
		return send(publisher, topic, s.workload, sent)
	}
	for send := range s.workload.Sends() {
		payload, err := json.Marshal(send.Event)
		if err != nil {
			return err
		}
		copies := make([]*message.Message, s.copies)
		for i := range copies {
			copies[i] = message.NewMessage(watermill.NewUUID(), payload)
			copies[i].Metadata.Set(dedup.MetaEventID, send.ID)
			copies[i].Metadata.Set("copy", fmt.Sprint(min(i, 1)))
		}
		if err := publisher.Publish(topic, copies...); err != nil {
			return err
		}
		sent.Record(send.Event, fault.SendOK)
	}
	return nil
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
