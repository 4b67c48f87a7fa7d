package fault_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/fault"
)

type look = func(context.Context) (map[string]int64, error)

func drain(t *testing.T, answer func(since time.Duration) (map[string]int64, error)) (left map[string]int64, err error) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		left, err = fault.Drain(ctx, func(context.Context) (map[string]int64, error) { return answer(time.Since(start)) })
	})
	return left, err
}

func TestDrainWaits(t *testing.T) {
	boom := errors.New("boom")
	left, err := drain(t, func(since time.Duration) (map[string]int64, error) {
		switch {
		case since < time.Second:
			return map[string]int64{"backlog": 5, "pending": 0}, nil
		case since < 2*time.Second:
			return nil, boom // the broker restarts
		default:
			return map[string]int64{"backlog": 0, "pending": 0}, nil
		}
	})
	require.NoError(t, err)
	require.NotNil(t, left, "nil stands for: nobody looked")
	require.Empty(t, left)
}

func TestDrainTellsWhatIsLeft(t *testing.T) {
	left, err := drain(t, func(time.Duration) (map[string]int64, error) {
		return map[string]int64{"backlog": 0, "pending": 2, "unacked": -1}, nil
	})
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"pending": 2, "unacked": -1}, left)

	left, err = drain(t, func(time.Duration) (map[string]int64, error) { return nil, errors.New("boom") })
	require.EqualError(t, err, "look what has not drained: boom")
	require.Nil(t, left)
}

// A look that never answers is cut off by the deadline, and is not taken for
// "drained".
func TestDrainWithoutAnAnswer(t *testing.T) {
	var hang look = func(ctx context.Context) (map[string]int64, error) { <-ctx.Done(); return nil, ctx.Err() }
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		left, err := fault.Drain(ctx, hang)
		require.EqualError(t, err, "look what has not drained: no answer in time")
		require.Nil(t, left)
	})
}
