package adapters_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
)

// member is a consumer that takes a second to leave.
type member struct {
	stopped chan struct{}
	left    bool
	failure error
}

func (m *member) running() adapters.Running {
	return adapters.Running{
		Stop:    func() { close(m.stopped) },
		Stopped: m.stopped,
		Leave:   func() error { time.Sleep(time.Second); m.left = true; return m.failure },
	}
}

func TestConsumersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var consumers adapters.Consumers[*member]
		a, b, c := &member{stopped: make(chan struct{})}, &member{stopped: make(chan struct{})}, &member{stopped: make(chan struct{}), failure: errors.New("no answer")}
		ctx, cancel := context.WithCancel(t.Context())
		require.True(t, consumers.Start(ctx, a, a.running()))
		require.True(t, consumers.Start(t.Context(), b, b.running()))
		require.True(t, consumers.Start(t.Context(), c, c.running()))
		require.ElementsMatch(t, []*member{a, b, c}, consumers.All())

		cancel()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.True(t, a.left, "its context ended")
		require.ElementsMatch(t, []*member{b, c}, consumers.All())

		require.False(t, consumers.Closed())
		begun := time.Now()
		require.EqualError(t, consumers.Close(), "no answer")
		require.Equal(t, time.Second, time.Since(begun), "they leave side by side")
		require.True(t, b.left && c.left && consumers.Closed())

		late := &member{stopped: make(chan struct{})}
		require.False(t, consumers.Start(t.Context(), late, late.running()))
		require.True(t, late.left)
		require.NoError(t, consumers.Close())
	})
}
