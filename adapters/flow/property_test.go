package flow_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"pgregory.net/rapid"

	"github.com/hapax-go/hapax/adapters/flow"
)

// attempt is what happens to one handing-out of a planned delivery.
type attempt struct {
	takes  time.Duration // the handler's time
	nack   bool
	again  bool // asked for by the adapter, when nacked
	after  time.Duration
	silent bool // neither acked nor nacked
}

// planned is a delivery that does as the test drew it, and checks as it goes
// what the flow promises.
type planned struct {
	model    *model
	seq      int
	lane     string
	attempts []attempt

	handed  int // handing-outs so far
	nacked  bool
	ended   string
	notTill time.Time
}

type modelKey struct{}

type model struct {
	mu       sync.Mutex
	problems []string
	window   int
	counted  int                 // accepted and not ended
	holder   map[string]*planned // handed out and not ended, by lane
	seen     map[string]int      // newest seq handed out, by lane
	drained  bool
}

func (m *model) fail(format string, args ...any) {
	m.problems = append(m.problems, fmt.Sprintf(format, args...))
}

func (p *planned) Lane() string { return p.lane }

func (p *planned) Message() *message.Message {
	m := p.model
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.ended != "" || m.drained {
		m.fail("%d handed out after it was %s", p.seq, p.ended)
	}
	if time.Now().Before(p.notTill) {
		m.fail("%d handed out again %s early", p.seq, time.Until(p.notTill))
	}
	if p.lane != "" {
		if holder := m.holder[p.lane]; holder != nil && holder != p {
			m.fail("%d handed out while %d of its lane was", p.seq, holder.seq)
		}
		if p.seq < m.seen[p.lane] {
			m.fail("%d handed out after %d of its lane", p.seq, m.seen[p.lane])
		}
		m.holder[p.lane], m.seen[p.lane] = p, p.seq
	}
	p.handed++
	p.nacked = false
	msg := message.NewMessage("", nil)
	msg.SetContext(context.WithValue(context.Background(), modelKey{}, p))
	return msg
}

func (p *planned) end(how string) {
	m := p.model
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.ended != "" || m.drained {
		m.fail("%d %s after it was %q, drained %v", p.seq, how, p.ended, m.drained)
	}
	p.ended = how
	if m.holder[p.lane] == p {
		delete(m.holder, p.lane)
	}
	m.counted--
}

func (p *planned) current() attempt { return p.attempts[min(p.handed, len(p.attempts))-1] }

func (p *planned) Acked() {
	if at := p.current(); at.nack || at.silent {
		p.model.fail("%d acked by nobody", p.seq)
	}
	p.end("acked")
}

func (p *planned) Nacked() (time.Duration, bool) {
	p.model.mu.Lock()
	at := p.current()
	if !p.nacked {
		p.model.fail("%d nacked by nobody", p.seq)
	}
	p.notTill = time.Now().Add(at.after)
	p.model.mu.Unlock()
	if !at.again {
		p.end("given up")
	}
	return at.after, at.again
}

func (p *planned) Abandoned() { p.end("abandoned") }

func (p *planned) handle(msg *message.Message) {
	p.model.mu.Lock()
	at := p.current()
	p.model.mu.Unlock()
	time.Sleep(at.takes) // virtual time
	switch {
	case at.silent:
	case at.nack:
		p.model.mu.Lock()
		p.nacked = true
		p.model.mu.Unlock()
		msg.Nack()
	default:
		msg.Ack()
	}
}

var (
	durations = rapid.SampledFrom([]time.Duration{0, 0, 0, 50 * time.Microsecond, 900 * time.Microsecond, 3 * time.Millisecond, 80 * time.Millisecond})
	attempts  = rapid.Custom(func(t *rapid.T) attempt {
		return attempt{
			takes:  durations.Draw(t, "takes"),
			nack:   rapid.IntRange(0, 3).Draw(t, "nack") == 0,
			again:  rapid.IntRange(0, 3).Draw(t, "again") > 0,
			after:  durations.Draw(t, "after"),
			silent: rapid.IntRange(0, 99).Draw(t, "silent") == 0,
		}
	})
)

// Virtual time runs on only when every goroutine waits, so each run meets the
// slow path, the retries and the deadline exactly as drawn.
func TestFlowKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		run := drawRun(rt)
		synctest.Test(t, func(*testing.T) { run.play() })
		if len(run.problems) > 0 {
			rt.Fatalf("%q", run.problems)
		}
	})
}

type play struct {
	model
	plan                        []*planned
	buffer, reads               int
	drainAt, drainFor, offerFor time.Duration
}

func drawRun(t *rapid.T) *play {
	r := &play{
		model:    model{window: rapid.IntRange(1, 12).Draw(t, "window"), holder: map[string]*planned{}, seen: map[string]int{}},
		plan:     make([]*planned, rapid.IntRange(0, 60).Draw(t, "deliveries")),
		buffer:   rapid.IntRange(1, 12).Draw(t, "buffer"),
		reads:    rapid.SampledFrom([]int{1000, 1000, 5}).Draw(t, "reads"),
		drainAt:  durations.Draw(t, "drain at") * 10,
		drainFor: durations.Draw(t, "drain for") * 5,
		offerFor: rapid.SampledFrom([]time.Duration{time.Hour, time.Millisecond}).Draw(t, "offer for"),
	}
	lanes := rapid.SampledFrom([][]string{{""}, {"", "a", "b"}, {"a", "b", "c", "d", "e"}, {"a"}}).Draw(t, "lanes")
	for i := range r.plan {
		r.plan[i] = &planned{
			model: &r.model, seq: i + 1, lane: rapid.SampledFrom(lanes).Draw(t, "lane"),
			attempts: rapid.SliceOfN(attempts, 1, 3).Draw(t, "attempts"),
		}
		// A plan that nacks for ever never ends.
		r.plan[i].attempts[len(r.plan[i].attempts)-1].again = false
	}
	return r
}

func (r *play) play() {
	m := &r.model
	f := flow.New(flow.Config{Window: m.window, Buffer: r.buffer})
	var all sync.WaitGroup
	all.Go(func() { // the broker
		ctx, cancel := context.WithTimeout(context.Background(), r.offerFor)
		defer cancel()
		for _, p := range r.plan {
			err := f.Offer(ctx, p)
			m.mu.Lock()
			switch {
			case err == nil:
				m.counted++
				if m.counted > m.window {
					m.fail("%d unfinished in a window of %d", m.counted, m.window)
				}
			case !errors.Is(err, flow.ErrClosed) && !errors.Is(err, context.DeadlineExceeded):
				m.fail("offer: %v", err)
			case p.ended != "":
				m.fail("%d refused and %s", p.seq, p.ended)
			default:
				p.ended = "refused"
				if m.holder[p.lane] == p {
					delete(m.holder, p.lane)
				}
			}
			m.mu.Unlock()
		}
	})
	all.Go(func() { // the Router, which may stop reading
		for range r.reads {
			msg, open := <-f.Messages()
			if !open {
				return
			}
			p := msg.Context().Value(modelKey{}).(*planned)
			all.Go(func() { p.handle(msg) })
		}
	})
	time.Sleep(r.drainAt)
	for range 2 { // Drain may be called concurrently
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), r.drainFor)
			defer cancel()
			_ = f.Drain(ctx)
			if _, open := <-f.Messages(); open {
				m.mu.Lock()
				m.fail("a message came after Drain")
				m.mu.Unlock()
			}
			m.mu.Lock()
			m.drained = true
			m.mu.Unlock()
		})
	}
	all.Wait()
	for _, p := range r.plan {
		if p.ended == "" {
			m.fail("%d was lost", p.seq)
		}
	}
	if room := f.Room(); room != m.window {
		m.fail("room for %d of %d at the end", room, m.window)
	}
}
