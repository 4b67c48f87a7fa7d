package sqlite_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
)

// strike makes the plan's faults happen.
func (r *run) strike(ctx context.Context, t *testing.T) {
	t.Helper()
	if len(r.plan.Strikes) == 0 {
		return
	}
	runner := fault.Runner{Plan: r.plan, Fleet: r.fleet, Progress: func(ctx context.Context) (int64, error) {
		if r.byHandlers {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.begun, nil
		}
		return effects.Progress(ctx, r.shop)
	}}
	if r.hooks != nil {
		runner.Hooks = r.hooks(r)
	}
	outcome, err := runner.Run(ctx)
	require.NoError(t, err)
	require.Empty(t, outcome.Skipped, "every fault of the plan happens")
}

// judge waits until everything has drained, stops the consumers, and hands what is
// in the stores to the oracle.
func (r *run) judge(ctx context.Context, t *testing.T) fault.Report {
	t.Helper()
	observation := fault.Observation{ExpectOutputs: true, MayNotRedeliver: r.mild, Unordered: r.spread > 1, Expected: r.sent.Expected()}
	var err error
	observation.Earlier, err = effects.Read(ctx, r.shop)
	require.NoError(t, err)
	observation.Left, err = fault.Drain(ctx, r.left)
	require.NoError(t, err)
	observation.Counts = r.fleet.Counts()
	require.NoError(t, errors.Join(r.fleet.Shutdown(30*time.Second), r.fleet.Err()))

	r.effects, err = effects.Read(t.Context(), r.shop)
	require.NoError(t, err)
	r.deliveries, err = effects.ReadDeliveries(t.Context(), r.tried)
	require.NoError(t, err)
	observation.Effects, observation.Deliveries = r.effects, r.deliveries
	observation.Outputs = r.outputs(t)
	return fault.Check(observation)
}

// left counts what the broker still holds.
func (r *run) left(ctx context.Context) (map[string]int64, error) {
	groups, err := r.broker.Stats(ctx)
	if err == nil && len(groups) == 0 {
		err = errors.New("no group has joined")
	}
	left := map[string]int64{}
	for _, group := range groups {
		left[group.Topic+" backlog"] = group.Backlog
		left[group.Topic+" pending"] = group.Pending
	}
	return left, err
}

// outputs reads the output topic by the file's public view.
func (r *run) outputs(t *testing.T) (found []fault.Effect) {
	t.Helper()
	rows, err := r.broker.DB().QueryContext(t.Context(), `SELECT number, payload FROM hapax_log WHERE topic = ? ORDER BY number`, output)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var number int64
		var payload []byte
		require.NoError(t, rows.Scan(&number, &payload))
		var event fault.Event
		require.NoError(t, json.Unmarshal(payload, &event))
		found = append(found, fault.Effect{ID: event.ID, Key: event.Key, Seq: event.Seq, Position: number})
	}
	require.NoError(t, rows.Err())
	return found
}
