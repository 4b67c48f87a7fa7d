package rabbitmq_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/rabbitmq/plain"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
)

// noted takes what a process tells.
func (r *run) noted(data json.RawMessage) {
	var n note
	if json.Unmarshal(data, &n) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case n.Had != nil:
		r.had = append(r.had, *n.Had)
	case n.Begun != nil:
		r.begun = append(r.begun, *n.Begun)
	default:
		r.ended++
		if n.Err != "" {
			r.errs = append(r.errs, n.Err)
		}
	}
}

// handling is how many deliveries are in the first stage. What those of killed
// processes would have come to, they did not tell.
func (r *run) handling() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fleet.Counts().Kills > 0 {
		return 0
	}
	return len(r.had) - r.ended
}

// started waits for a number of handlers to begin.
func (r *run) started(ctx context.Context, count int) error {
	return poll(ctx, func() (bool, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.begun) >= count, nil
	})
}

// booked waits for a number of effects.
func (r *run) booked(ctx context.Context, count int64) error {
	return poll(ctx, func() (bool, error) {
		found, err := effects.Progress(ctx, r.books)
		return found >= count, err
	})
}

func poll(ctx context.Context, done func() (bool, error)) error {
	for {
		if found, err := done(); found || err != nil {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// auditGroup has a queue of outputs that nobody consumes.
const auditGroup = "audit"

// audit reads the outputs without the adapter.
func (r *run) audit(t *testing.T, server plain.Server, out string) {
	t.Helper()
	outputs, err := server.Empty(out + "_" + auditGroup)
	require.NoError(t, err)
	for i, output := range outputs {
		var event fault.Event
		require.NoError(t, json.Unmarshal(output.Payload, &event))
		r.outputs = append(r.outputs, fault.Effect{
			ID: event.ID, Key: event.Key, Seq: event.Seq, Position: int64(i),
			Identity: output.Metadata.Get(dedup.MetaEventID), Consumer: output.Metadata.Get(metaRelay),
		})
	}
}
