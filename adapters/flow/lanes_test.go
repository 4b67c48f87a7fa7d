package flow

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
)

type laned string

func (l laned) Message() *message.Message   { return message.NewMessage("", nil) }
func (l laned) Lane() string                { return string(l) }
func (laned) Acked()                        {}
func (laned) Nacked() (time.Duration, bool) { return 0, false }
func (laned) Abandoned()                    {}

func TestLanesAreForgottenWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Config{Window: 100})
		for i := range 5000 {
			lane := laned(strconv.Itoa(i))
			require.NoError(t, f.Offer(t.Context(), lane))
			require.NoError(t, f.Offer(t.Context(), lane))
			(<-f.Messages()).Nack() // given up
			(<-f.Messages()).Ack()
		}
		synctest.Wait()
		require.Empty(t, f.lanes)
		require.Zero(t, f.used)
		require.NoError(t, f.Drain(t.Context()))
	})
}

// losable waits for an hour after a nack, unless it is lost.
type losable struct {
	laned
	lost      chan struct{}
	abandoned chan struct{}
}

func (losable) Nacked() (time.Duration, bool) { return time.Hour, true }
func (l losable) Lost() <-chan struct{}       { return l.lost }
func (l losable) Abandoned()                  { close(l.abandoned) }

func TestLostDeliveriesAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Config{})
		first := losable{"lane", make(chan struct{}), make(chan struct{})}
		require.NoError(t, f.Offer(t.Context(), first))
		require.NoError(t, f.Offer(t.Context(), laned("lane")))
		began := time.Now()
		(<-f.Messages()).Nack()
		time.Sleep(time.Minute)
		close(first.lost)
		(<-f.Messages()).Ack()
		<-first.abandoned
		require.Equal(t, time.Minute, time.Since(began))
		synctest.Wait()
		require.Empty(t, f.lanes)
		require.Zero(t, f.used)
		require.NoError(t, f.Drain(t.Context()))
	})
}
