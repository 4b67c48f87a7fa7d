package acceptance_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
)

// readOutputs starts the next stage, which no fault strikes. The effects are what its
// handler makes of the outputs; in a control run it does not deduplicate either.
func (r *run) readOutputs(t *testing.T) (stop func() error) {
	t.Helper()
	strategy := dedup.Strategy(dedup.Plain{Publisher: r.broker.Publisher()})
	release := func() error { return nil }
	if r.ledger != "" {
		ledger := memory.New(memory.Config{Window: time.Hour})
		over := dedup.NewLedgerStrategy(ledger, r.broker.Publisher(), dedup.LedgerOptions{Logger: quiet})
		strategy = over
		release = func() error { return errors.Join(over.Close(), ledger.Close()) }
	}
	handle := func(msg *message.Message) ([]*message.Message, error) {
		var event fault.Event
		if err := json.Unmarshal(msg.Payload, &event); err != nil {
			return nil, err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		now := time.Now()
		if !r.last.IsZero() {
			r.gap = max(r.gap, now.Sub(r.last))
		}
		r.last = now
		r.effects = append(r.effects, fault.Effect{ID: event.ID, Key: event.Key, Seq: event.Seq})
		return nil, nil
	}
	var stage func() error
	err := patiently(t.Context(), func() (err error) {
		stage, err = serve(t.Context(), r.broker, r.out, "unused", strategy, handle)
		return err
	})
	require.NoError(t, err)
	return func() error { return errors.Join(stage(), release()) }
}

// judge waits until everything has drained, stops the consumers, and hands what was
// seen to the oracle.
func (r *run) judge(ctx context.Context, t *testing.T, stop func() error) fault.Report {
	t.Helper()
	observation := fault.Observation{MayNotRedeliver: r.mild, Unordered: !r.fifo || r.spread > 1 || r.forgetful, Expected: r.sent.Expected()}
	var err error
	observation.Left, err = fault.Drain(ctx, r.left)
	require.NoError(t, err)
	observation.Counts = r.fleet.Counts()
	require.NoError(t, errors.Join(r.fleet.Shutdown(30*time.Second), r.fleet.Err()))
	require.NoError(t, stop())

	db, err := effects.Open(t.Context(), deliveriesFile(r.folder))
	require.NoError(t, err)
	defer db.Close()
	r.deliveries, err = effects.ReadDeliveries(t.Context(), db)
	require.NoError(t, err)
	observation.Effects, observation.Deliveries = r.effects, r.deliveries
	report := fault.Check(observation)
	for _, id := range report.Problems["lost"] {
		t.Logf("lost %s: its handler began %d times; deliveries %+v", id, count(r.begun, id), slices.DeleteFunc(slices.Clone(r.deliveries), func(d fault.Delivery) bool { return d.ID != id }))
	}
	if forgot := forgot(t); report.Err() != nil && forgot > r.forgot {
		t.Logf("meanwhile a queue of the server forgot everything it had, %d times: see OneForOneStrategy in its log; it may have been one of this run's", forgot-r.forgot)
	}
	return report
}

func count(events []string, id string) (n int) {
	for _, event := range events {
		if event == id {
			n++
		}
	}
	return n
}

// left counts what the queues still hold, in the direction in which messages go: the
// other way round, one could go from a queue that is counted later into one that was
// counted before. Dead letters would be losses.
func (r *run) left(ctx context.Context) (map[string]int64, error) {
	left := map[string]int64{}
	for _, topic := range []string{r.in, r.out, dedup.DeadLetterTopic(r.in), dedup.DeadLetterTopic(r.out)} {
		backlog, err := r.broker.Backlog(ctx, topic)
		if err != nil {
			return nil, err
		}
		left[topic] = backlog.Waiting + backlog.InFlight + backlog.Delayed
	}
	return left, nil
}
