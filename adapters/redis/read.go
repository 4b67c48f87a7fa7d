package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hapax-go/hapax/adapters"
)

const (
	// holdTurn is how long a member reads while others wait for their turn, and
	// askTurn how often those ask.
	holdTurn = 10 * time.Millisecond
	askTurn  = 5 * time.Millisecond
)

// read keeps the window filled, until stop.
//
// Whoever reads has the group's turn: what was read is assigned to lanes before
// anybody reads further, and so equal keys stay in order across members. A member
// alone keeps the turn, and pays nothing for it but the assignment of messages that
// have a key. Without an order to keep, everybody reads at once, and takes the turn
// only to look for what dead members left.
func (c *consumer) read() {
	ctx, cancel := context.WithCancel(c.broker.ctx)
	defer cancel()
	c.reading.Go(func() {
		<-c.closing
		cancel()
	})
	r := reader{consumer: c, ordered: c.subscription.Ordering != adapters.Unordered}
	for pause := time.Duration(0); ; {
		err := r.next(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			pause = 0
			continue
		}
		r.failed(err)
		pause = min(max(2*pause, 10*time.Millisecond), time.Second)
		c.sleep(pause)
	}
}

// reader is the state of reading.
type reader struct {
	*consumer
	ordered bool
	member  *membership
	turn    bool      // this member has the turn
	since   time.Time // the turn was taken
	looked  time.Time // for what dead members left
}

// next waits for room and takes a step.
func (r *reader) next(ctx context.Context) error {
	room := 0
	if r.turn && !r.member.unassigned {
		// The others must not wait for this member's handlers.
		if room = r.room(ctx, holdTurn); room == 0 {
			if err := r.release(ctx, r.member); err != nil {
				return err
			}
		}
	}
	if room == 0 {
		if room = r.room(ctx, 0); room == 0 {
			return nil // closing
		}
	}
	m, err := r.consumer.member(ctx)
	if err != nil {
		return err
	}
	return r.step(ctx, m, room)
}

// step does one thing: it takes the turn, loads what is pending unseen, or reads.
func (r *reader) step(ctx context.Context, m *membership, room int) error {
	if r.member != m { // joined anew
		r.member, r.turn, r.looked = m, false, time.Time{}
	}
	glance := min(max(r.broker.config.Lease/4, 20*time.Millisecond), time.Second)
	if r.ordered && !r.turn || m.orphaned || time.Since(r.looked) >= glance {
		had := r.turn
		var err error
		if r.turn, err = r.takeTurn(ctx, m); err != nil {
			return err
		}
		if r.looked = time.Now(); !had {
			r.since = r.looked
		}
	}
	if m.lost() {
		return nil
	}
	if m.recheck.Swap(false) {
		m.unseen = true
	}
	if m.unseen {
		some, err := r.load(ctx, m)
		if err != nil {
			return err
		}
		m.unseen = some != loadedAll
		m.unassigned = m.unassigned && m.unseen
		if m.unseen {
			// A suspect may take for ever; the rest of the group must not wait for it.
			if !m.unassigned || some == loadedSuspect {
				if err := r.release(ctx, m); err != nil {
					return err
				}
			}
			r.sleep(askTurn)
			return nil
		}
	}
	if r.ordered && !r.turn {
		r.sleep(askTurn)
		return nil
	}
	if !r.ordered {
		if err := r.release(ctx, m); err != nil {
			return err
		}
	}
	entries, wanted, err := r.fetch(m, min(room, max(r.flow.Room(), 1)))
	if err != nil {
		return err
	}
	deliveries := make([]*delivery, len(entries))
	for i, entry := range entries {
		deliveries[i] = m.deliver(entry, 1)
	}
	if err := r.offer(ctx, m, deliveries); err != nil {
		return err
	}
	// What waits for what a dead member left is in no lane yet: others would read past it.
	if wanted && !m.unassigned && time.Since(r.since) >= holdTurn {
		return r.release(ctx, m)
	}
	return nil
}

// release gives the turn back, if this member has it.
func (r *reader) release(ctx context.Context, m *membership) error {
	if !r.turn {
		return nil
	}
	r.turn = false
	return r.passTurn(ctx, m)
}

// failed reports an error of a step. An answer may have been lost: entries may be
// pending that were never seen, and the turn may have been taken or passed.
func (r *reader) failed(err error) {
	r.turn, r.looked = false, time.Time{}
	if m := r.member; m != nil {
		m.unseen, m.unassigned = true, true
	}
	log := r.broker.config.Logger
	if groupIsGone(err) {
		log.Error("the consumer group is gone: creating it anew, from the stream's beginning", "topic", r.topic, "group", r.subscription.Group)
		err = r.broker.createGroup(context.Background(), r.topic, r.subscription.Group)
	}
	if err != nil {
		log.Warn("read stream: trying again", "topic", r.topic, "group", r.subscription.Group, "error", err)
	}
}

// groupIsGone reports that somebody deleted the stream or the group, or a fail-over lost
// it. Where a script met it, the words stand anywhere in the error, and before version 7
// never at its beginning.
func groupIsGone(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "NOGROUP ") || strings.Contains(err.Error(), "ERR no such key"))
}

// fetch reads new entries, and looks whether others wait for their turn. Its context
// does not end with closing: an answer on its way would be entries pending that
// nobody saw.
func (r *reader) fetch(m *membership, count int) (entries []redis.XMessage, wanted bool, err error) {
	ctx := context.Background()
	var read *redis.XStreamSliceCmd
	var waiting *redis.IntCmd
	_, err = r.broker.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		read = redis.NewXStreamSliceCmd(ctx, "xreadgroup", "group", r.subscription.Group, m.name, "count", count,
			"block", max(r.broker.config.Block, time.Millisecond).Milliseconds(), "streams", r.topic, ">")
		read.SetFirstKeyPos(streamsPosition)
		_ = pipe.Process(ctx, once{read}) // queues it
		waiting = pipe.Exists(ctx, r.keys.waiting)
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, false, fmt.Errorf("read: %w", err)
	}
	if streams := read.Val(); len(streams) > 0 {
		entries = streams[0].Messages
	}
	return entries, waiting.Val() > 0, nil
}

// once is a command that the client does not repeat. A read whose answer was lost has
// made entries pending that nobody has seen: repeated, it would hand out those behind
// them first. MaxRetries does not keep the client of a cluster from repeating.
type once struct{ *redis.XStreamSliceCmd }

// NoRetry implements redis.Cmder.
func (once) NoRetry() bool { return true }

// streamsPosition is where XREADGROUP's first key is.
const streamsPosition = 9

// offer gives deliveries to the flow, but for those that others are to handle. What
// the flow refuses, because it drains, stays pending until this member leaves in a
// moment.
func (c *consumer) offer(ctx context.Context, m *membership, deliveries []*delivery) (err error) {
	if c.subscription.Ordering != adapters.Unordered {
		if deliveries, err = c.arbitrate(ctx, m, deliveries); err != nil {
			return err
		}
	}
	for _, d := range deliveries {
		m.mu.Lock()
		m.held[d.entry] = d
		m.mu.Unlock()
		if c.exhausted(d.attempts - 1) {
			c.bury(d, fmt.Sprintf("handed out %d times and never acknowledged", d.attempts-1))
			continue
		}
		if err := c.flow.Offer(ctx, d); err != nil {
			return nil //nolint:nilerr // closing
		}
	}
	return nil
}

func (c *consumer) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.closing:
	}
}
