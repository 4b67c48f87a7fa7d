package bench

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// pace spreads messages evenly over time, and measures each from the moment it
// was due. Nil means "as fast as possible"; every method accepts it.
type pace struct {
	interval float64 // nanoseconds between messages
	every    int     // one in so many messages is measured
	start    time.Time

	following sync.WaitGroup
	mu        sync.Mutex
	latencies []time.Duration
}

// followed is how many messages a round measures at least, if it has as many.
// Each costs a goroutine, so measuring all would be part of what is measured.
const followed = 4000

func newPace(rate float64, messages int) *pace {
	return &pace{interval: float64(time.Second) / rate, every: max(1, messages/followed)}
}

// begin sets the time at which message 0 is due.
func (p *pace) begin() {
	if p != nil {
		p.start = time.Now()
	}
}

func (p *pace) due(i int) time.Time {
	return p.start.Add(time.Duration(float64(i) * p.interval))
}

// wait returns when message i is due.
func (p *pace) wait(ctx context.Context, i int) error {
	if p == nil {
		return nil
	}
	early := time.Until(p.due(i))
	if early <= 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(early):
		return nil
	}
}

// ready is how many of total messages are due by now.
func (p *pace) ready(total int) int {
	if p == nil {
		return total
	}
	return min(total, 1+int(float64(time.Since(p.start))/p.interval))
}

// follow measures a message when it is acknowledged.
func (p *pace) follow(msg *message.Message) {
	if p == nil {
		return
	}
	i := indexOf(msg.UUID)
	if i%p.every != 0 {
		return
	}
	p.following.Go(func() {
		select {
		case <-msg.Acked():
			p.settled(i)
		case <-msg.Nacked():
		}
	})
}

// settled measures message i, which has just been acknowledged.
func (p *pace) settled(i int) {
	if p == nil || i%p.every != 0 {
		return
	}
	latency := time.Since(p.due(i))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latencies = append(p.latencies, latency)
}

// quantiles returns the median and the 99th percentile of the round.
func (p *pace) quantiles() (p50, p99 time.Duration) {
	p.following.Wait()
	slices.Sort(p.latencies)
	return quantile(p.latencies, 0.5), quantile(p.latencies, 0.99)
}
