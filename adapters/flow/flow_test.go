package flow_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/flow"
)

// scripted is a delivery that a test looks at from outside.
type scripted struct {
	name  string
	lane  string
	ended atomic.Value // string
}

func (s *scripted) Message() *message.Message     { return message.NewMessage(s.name, nil) }
func (s *scripted) Lane() string                  { return s.lane }
func (s *scripted) Acked()                        { s.ended.Store("acked") }
func (s *scripted) Nacked() (time.Duration, bool) { return 0, true }
func (s *scripted) Abandoned()                    { s.ended.Store("abandoned") }

func (s *scripted) end() string {
	how, _ := s.ended.Load().(string)
	return how
}

func offer(t *testing.T, f *flow.Flow, name, lane string) *scripted {
	t.Helper()
	s := &scripted{name: name, lane: lane}
	require.NoError(t, f.Offer(t.Context(), s))
	return s
}

func read(t *testing.T, f *flow.Flow, name string) *message.Message {
	t.Helper()
	synctest.Wait()
	select {
	case msg := <-f.Messages():
		require.Equal(t, name, msg.UUID)
		return msg
	default:
		require.Fail(t, "nothing handed out", "expected %s", name)
		return nil
	}
}

func readNothing(t *testing.T, f *flow.Flow) {
	t.Helper()
	synctest.Wait()
	select {
	case msg := <-f.Messages():
		require.Fail(t, "handed out", msg.UUID)
	default:
	}
}

func TestSlowMessagesDelayOthersByAMomentOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := flow.New(flow.Config{Window: 20})
		var slow []*message.Message
		for range 3 {
			var quick []*scripted
			for range 3 {
				offer(t, f, "slow", "")
				slow = append(slow, read(t, f, "slow"))
				quick = append(quick, offer(t, f, "quick", ""))
				read(t, f, "quick").Ack()
			}
			time.Sleep(time.Millisecond) // virtual; one for all, not one for each
			synctest.Wait()
			for _, q := range quick {
				require.Equal(t, "acked", q.end())
			}
			require.Equal(t, 20-len(slow), f.Room())
		}
		for _, msg := range slow {
			msg.Ack()
		}
		require.NoError(t, f.Drain(t.Context()))
	})
}

// That all handlers take long is no reason to watch each message apart; that one does
// is, and the others do not wait for it.
func TestOnlySlowMessagesGetGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window, each = 500, 10
		f := flow.New(flow.Config{Window: window})
		var msgs []*message.Message
		for range window {
			offer(t, f, "message", "")
			msgs = append(msgs, read(t, f, "message"))
		}
		before := runtime.NumGoroutine()
		slow := msgs[:3]
		for rest := msgs[3:]; len(rest) > 0; rest = rest[min(each, len(rest)):] {
			time.Sleep(20 * time.Millisecond) // virtual
			for _, msg := range rest[:min(each, len(rest))] {
				msg.Ack()
			}
			synctest.Wait()
			require.Less(t, runtime.NumGoroutine()-before, 2*len(slow)+2)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		require.Equal(t, window-len(slow), f.Room())
		for _, msg := range slow {
			msg.Ack()
		}
		require.NoError(t, f.Drain(t.Context()))
	})
}

func TestLaneGoesOnAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := flow.New(flow.Config{Window: 10})
		offer(t, f, "other", "other")
		other := read(t, f, "other")
		offer(t, f, "first", "lane")
		second := offer(t, f, "second", "lane")
		first := read(t, f, "first")
		readNothing(t, f)

		start := time.Now()
		first.Ack()
		read(t, f, "second").Nack()
		read(t, f, "second").Ack()
		synctest.Wait()
		require.Equal(t, "acked", second.end())
		require.Zero(t, time.Since(start), "the lane waited for an older message of another lane")
		other.Ack()
		require.NoError(t, f.Drain(t.Context()))
	})
}

// Whoever is told that slots are free finds them free: nobody tells it again.
func TestFreedIsToldOnceThereIsRoom(t *testing.T) {
	freed := make(chan struct{}, 1)
	f := flow.New(flow.Config{Window: 1, Freed: func() { freed <- struct{}{} }})
	for range 1000 {
		offer(t, f, "only", "")
		require.Zero(t, f.Room())
		(<-f.Messages()).Ack()
		<-freed
		require.Equal(t, 1, f.Room())
	}
	require.NoError(t, f.Drain(t.Context()))
}

func TestDrainTakesBackWhatNobodyRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := flow.New(flow.Config{Window: 10})
		running := offer(t, f, "running", "lane")
		msg := read(t, f, "running")
		follower := offer(t, f, "follower", "lane")
		unread := offer(t, f, "unread", "")

		drained := make(chan error, 1)
		go func() { drained <- f.Drain(context.Background()) }()
		time.Sleep(2 * time.Millisecond) // virtual; the tracker looks at running first
		synctest.Wait()
		require.Equal(t, "abandoned", unread.end())
		require.Empty(t, follower.end(), "given back while its predecessor is being handled")
		require.ErrorIs(t, f.Offer(t.Context(), &scripted{}), flow.ErrClosed)

		msg.Ack()
		require.NoError(t, <-drained)
		require.Equal(t, "acked", running.end())
		require.Equal(t, "abandoned", follower.end())
		_, open := <-f.Messages()
		require.False(t, open)
		require.NoError(t, f.Drain(t.Context()), "again")
	})
}

func TestDrainDeadlineCutsHandlersOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := flow.New(flow.Config{Window: 10})
		running := offer(t, f, "running", "lane")
		msg := read(t, f, "running")
		follower := offer(t, f, "follower", "lane")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()

		err := f.Drain(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err, "drain: 1 messages were still being handled and were abandoned: context deadline exceeded")
		require.Equal(t, "abandoned", running.end())
		require.Equal(t, "abandoned", follower.end())
		msg.Ack()
		synctest.Wait()
		require.Equal(t, "abandoned", running.end(), "an ack after the end counts for nothing")
	})
}

func TestOfferWaitsForTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := flow.New(flow.Config{Window: 2})
		offer(t, f, "1", "lane")
		offer(t, f, "2", "lane") // followers count too
		require.Zero(t, f.Room())

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, f.Offer(ctx, &scripted{}), context.Canceled)

		offered := make(chan error, 2)
		for range 2 {
			go func() { offered <- f.Offer(context.Background(), &scripted{name: "later"}) }()
		}
		synctest.Wait()
		require.Empty(t, offered)
		read(t, f, "1").Ack()
		require.NoError(t, <-offered)
		synctest.Wait()
		require.Empty(t, offered, "one slot was freed, two deliveries were taken")

		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.NoError(t, f.Drain(ctx), "nobody was handling anything")
		require.ErrorIs(t, <-offered, flow.ErrClosed)
	})
}

// An Offer that nobody reads ends with its ctx: it has not taken the delivery, its slot is
// free, and its lane goes on without it.
func TestAnOfferThatNobodyReadsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := flow.New(flow.Config{Window: 10, Buffer: 1})
		offer(t, f, "unread", "")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		given := &scripted{name: "given up", lane: "lane"}
		offered := make(chan error, 1)
		go func() { offered <- f.Offer(ctx, given) }()
		synctest.Wait()
		follower := offer(t, f, "follower", "lane")
		require.Equal(t, 7, f.Room())
		require.ErrorIs(t, <-offered, context.DeadlineExceeded)
		require.Equal(t, 8, f.Room())
		read(t, f, "unread").Ack()
		read(t, f, "follower").Ack()
		time.Sleep(time.Second) // virtual
		synctest.Wait()
		require.Equal(t, "acked", follower.end())
		require.Empty(t, given.end(), "none of the ending methods is called")
		require.Equal(t, 10, f.Room())
		require.NoError(t, f.Drain(t.Context()))
	})
}

// An Offer that waits for the window hears of the drain at once, though what fills the
// window is still being handled.
func TestAWaitingOfferHearsOfTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := flow.New(flow.Config{Window: 1})
		offer(t, f, "running", "")
		msg := read(t, f, "running")
		offered, drained := make(chan error, 1), make(chan error, 1)
		go func() { offered <- f.Offer(context.Background(), &scripted{}) }()
		synctest.Wait()
		require.Empty(t, offered)
		go func() { drained <- f.Drain(context.Background()) }()
		require.ErrorIs(t, <-offered, flow.ErrClosed)
		require.Empty(t, drained)
		msg.Ack()
		require.NoError(t, <-drained)
	})
}

// postponed asks for its message again after an hour.
type postponed struct{ scripted }

func (*postponed) Nacked() (time.Duration, bool) { return time.Hour, true }

// A drain does not wait for redeliveries that are far away: they are given back.
func TestDrainDoesNotWaitForRedeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := flow.New(flow.Config{Window: 10})
		waiting := []*postponed{{scripted{name: "postponed"}}, {scripted{name: "postponed", lane: "lane"}}}
		for _, p := range waiting {
			require.NoError(t, f.Offer(t.Context(), p))
			read(t, f, "postponed").Nack()
		}
		time.Sleep(time.Second) // virtual
		start := time.Now()
		require.NoError(t, f.Drain(t.Context()))
		require.Less(t, time.Since(start), time.Minute) // of the bubble's clock
		for _, p := range waiting {
			require.Equal(t, "abandoned", p.end())
		}
	})
}

// Two slots that are freed at once let two waiting Offers in.
func TestEveryFreeSlotIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := flow.New(flow.Config{Window: 2})
		offer(t, f, "1", "")
		offer(t, f, "2", "")
		first, second := read(t, f, "1"), read(t, f, "2")
		offered := make(chan error, 2)
		for range 2 {
			go func() { offered <- f.Offer(context.Background(), &scripted{name: "later"}) }()
		}
		synctest.Wait()
		second.Ack() // noticed with the first
		first.Ack()
		require.NoError(t, <-offered)
		require.NoError(t, <-offered)
		require.NoError(t, f.Drain(t.Context()))
	})
}

// Deliveries that nobody has room for when the drain begins were not taken, or are given
// back: those of a lane that goes on like those that Offer brings.
func TestDrainWhileNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := flow.New(flow.Config{Window: 100, Buffer: 1})
		offer(t, f, "first", "lane")
		follower := offer(t, f, "follower", "lane")
		first := read(t, f, "first")
		unread := offer(t, f, "unread", "")
		first.Ack()
		var offers sync.WaitGroup
		given, errs := make([]scripted, 20), make([]error, 20)
		for i := range given {
			offers.Go(func() { errs[i] = f.Offer(context.Background(), &given[i]) })
		}
		synctest.Wait()
		require.NoError(t, f.Drain(t.Context()))
		offers.Wait()
		require.Equal(t, "abandoned", unread.end())
		require.Equal(t, "abandoned", follower.end())
		for i, err := range errs {
			if err == nil {
				require.Equal(t, "abandoned", given[i].end())
				continue
			}
			require.ErrorIs(t, err, flow.ErrClosed)
			require.Empty(t, given[i].end())
		}
	})
}
