package proxy

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2/toxics"
)

const chaosType = "hapax_chaos"

// register makes the toxics known to toxiproxy, whose registry is global. Doing
// so again changes nothing.
func register() {
	toxics.Register(chaosType, new(chaos))
	toxics.Register(throughType, new(through))
}

// Stats counts what really happened.
type Stats struct {
	Connections int64 `json:"connections"`
	Cut         int64 `json:"cut"`
	Dropped     int64 `json:"dropped"`
	Delayed     int64 `json:"delayed"`
}

// faults are what chaos does at a time; the zero value does nothing.
type faults struct {
	cutMin, cutMax     time.Duration
	drop               Drop
	delayFraction      float64
	delayMin, delayMax time.Duration
}

// chaos is a toxic on the way from the server to the client.
type chaos struct {
	links sync.WaitGroup // connections under way

	mu      sync.Mutex
	seed    uint64
	faults  faults
	changed chan struct{} // closed, and replaced, when faults change
	closed  chan struct{}
	counts  Stats
}

func (c *chaos) start(seed uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seed, c.changed, c.closed = seed, make(chan struct{}), make(chan struct{})
}

func (c *chaos) change(change func(*faults)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.faults)
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *chaos) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.closed)
}

func (c *chaos) current() (faults, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.faults, c.changed
}

func (c *chaos) stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts
}

func (c *chaos) count(change func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.counts)
}

// NewState is called by toxiproxy for each connection, before Pipe and before the
// next connection is accepted: so Close, once the proxy accepts no more, waits
// for all of them.
func (c *chaos) NewState() any {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Connections++
	c.links.Add(1)
	return rand.New(rand.NewPCG(c.seed, uint64(c.counts.Connections)))
}

// Pipe is called by toxiproxy for each connection, and passes on what the server
// says. It is never interrupted, because no toxic is put behind it. It must read
// to the end of its input, even after the connection was cut: otherwise the
// goroutine that feeds it would wait for ever.
func (c *chaos) Pipe(stub *toxics.ToxicStub) {
	defer c.links.Done()
	link := &chaosLink{chaos: c, stub: stub, random: stub.State.(*rand.Rand)}
	for link.pass() {
	}
	stub.Close() // ends the writing to the client, and so the connection
	for range stub.Input {
	}
}

// chaosLink is one connection.
type chaosLink struct {
	*chaos
	stub    *toxics.ToxicStub
	random  *rand.Rand
	answers int
}

// pass passes answers on until the faults change, and then reports true, or the
// connection is to end.
func (l *chaosLink) pass() (goOn bool) {
	faults, changed := l.current()
	var cut <-chan time.Time
	if faults.cutMax > 0 {
		cut = time.After(l.between(faults.cutMin, faults.cutMax))
	}
	for {
		select {
		case <-changed:
			return true
		case <-cut:
			l.count(func(s *Stats) { s.Cut++ })
			return false
		case chunk := <-l.stub.Input:
			if chunk == nil {
				return false
			}
			l.answers++
			if l.answers > faults.drop.Spare && l.chance(faults.drop.Fraction) {
				l.count(func(s *Stats) { s.Dropped++ })
				l.swallow(time.After(faults.drop.Delay))
				return false
			}
			if l.chance(faults.delayFraction) {
				l.count(func(s *Stats) { s.Delayed++ })
				l.hold(time.After(l.between(faults.delayMin, faults.delayMax)))
			}
			select {
			case l.stub.Output <- chunk:
			case <-l.closed: // toxiproxy stops taking when the client has gone
				return false
			case <-cut:
				l.count(func(s *Stats) { s.Cut++ })
				return false
			}
		}
	}
}

func (l *chaosLink) hold(over <-chan time.Time) {
	select {
	case <-over:
	case <-l.closed:
	}
}

// swallow drops everything until the time is over or the server has ended.
func (l *chaosLink) swallow(over <-chan time.Time) {
	for {
		select {
		case <-over:
			return
		case <-l.closed:
			return
		case chunk := <-l.stub.Input:
			if chunk == nil {
				return
			}
		}
	}
}

// chance draws only for faults that are on, so that turning one on does not
// depend on how long it was off.
func (l *chaosLink) chance(fraction float64) bool {
	return fraction > 0 && l.random.Float64() < fraction
}

func (l *chaosLink) between(low, high time.Duration) time.Duration {
	return low + time.Duration(l.random.Int64N(int64(max(high-low, 0))+1))
}
