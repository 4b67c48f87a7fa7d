package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/hapax-go/hapax/dedup"
)

// publication is one round's batch on its way.
type publication struct {
	worker *worker
	leases map[int]lease
	sent   []claimed
	failed map[unit]bool // units of which a row failed in this round
	before int64         // the relay's count of published rows when the round began
	topics map[string]*part
	part   *part // of the topic whose rows are sent now
}

// part is that of one topic in a round.
type part struct {
	lost    time.Duration // on sending what the broker did not take
	sent    bool          // some of it was taken
	streak  int
	refused error // why the part is over
	crowded error // why a unit failed that could not be held any more
}

// publish sends the turns of a batch and settles what was sent.
func (p *publication) publish(ctx context.Context, turns [2][]claimed) error {
	p.before = p.worker.relay.stats.published.Load()
	var errs []error
	for _, rows := range turns {
		if err := p.turn(ctx, rows); err != nil {
			errs = append(errs, err)
			break
		}
	}
	if err := errors.Join(append(errs, p.worker.settle(ctx, p.sent), p.silence())...); err != nil {
		return err // nothing is known of topics, and the worker pauses
	}
	p.rest()
	return nil
}

// turn sends rows, topic by topic.
func (p *publication) turn(ctx context.Context, rows []claimed) error {
	var topics []string
	groups := map[string][]claimed{}
	var errs []error
	for _, row := range rows {
		if row.broken != nil {
			p.enter(row.topic)
			errs = append(errs, p.fail(ctx, row, fmt.Errorf("%w: row does not make a message: %w", dedup.ErrBadOutput, row.broken)))
			continue
		}
		if groups[row.topic] == nil {
			topics = append(topics, row.topic)
		}
		groups[row.topic] = append(groups[row.topic], row)
	}
	for _, topic := range topics {
		if err := p.topic(ctx, topic, groups[topic]); err != nil {
			errs = append(errs, err)
			break
		}
	}
	return errors.Join(errs...)
}

func (p *publication) enter(topic string) {
	if p.topics[topic] == nil {
		p.topics[topic] = &part{}
	}
	p.part = p.topics[topic]
}

// topic sends rows of one topic, unless its part in the round is over. An error says
// that it is not the topic: the round ends.
func (p *publication) topic(ctx context.Context, topic string, rows []claimed) error {
	if p.enter(topic); p.part.refused != nil {
		return nil
	}
	err := p.try(ctx, topic, rows)
	if errors.Is(err, errRefused) {
		p.part.refused = err
		return nil
	}
	return err
}

// silence returns an error if nobody can be asked whether the broker is away, and it
// refused topics and took nothing, from this worker or from another one, since the
// round began.
func (p *publication) silence() error {
	relay := p.worker.relay
	if relay.config.Ping != nil || relay.stats.published.Load() > p.before {
		return nil
	}
	for _, part := range p.topics {
		if err := cmp.Or(part.refused, part.crowded); err != nil {
			return fmt.Errorf("%w: %w", errOutage, err)
		}
	}
	return nil
}

// rest lets topics rest of which messages were not taken, for as long as that took:
// however slowly the broker refuses them, other topics have half of the time. Units
// that could not be held have no pauses of their own and would be tried again at once,
// for ever; so the topic's pause grows then, until something of it gets through.
func (p *publication) rest() {
	w := p.worker
	for topic, part := range p.topics {
		r := w.rests[topic]
		if part.lost == 0 {
			if part.sent {
				delete(w.rests, topic)
			}
			continue
		}
		if r == nil {
			r = &rest{pause: w.relay.patience()}
			w.rests[topic] = r
		}
		if part.sent {
			r.pause.Reset()
		}
		pause := part.lost
		if part.crowded != nil {
			pause += r.pause.NextBackOff()
		}
		r.until = time.Now().Add(pause)
		if err := cmp.Or(part.refused, part.crowded); err != nil && !r.told {
			r.told = true
			w.relay.config.Logger.Warn("outbox rows of a topic fail one after the other: other topics go on in between", "topic", topic, "error", err)
		}
	}
}

// try sends rows of one topic; when that fails, each half, and so on, so that in
// the end the rows at fault stand alone.
func (p *publication) try(ctx context.Context, topic string, rows []claimed) error {
	rows = p.passable(rows)
	if len(rows) == 0 {
		return nil
	}
	began := time.Now()
	err := p.worker.send(ctx, topic, rows)
	if err == nil {
		p.part.sent, p.part.streak = true, 0
		p.sent = append(p.sent, rows...)
		for _, row := range rows {
			delete(p.worker.held, unitOf(row))
		}
		return nil
	}
	p.part.lost += time.Since(began)
	if len(rows) == 1 {
		return p.fail(ctx, rows[0], err)
	}
	if !errors.Is(err, dedup.ErrBadOutput) {
		if err := p.outage(ctx, err); err != nil {
			return err
		}
	}
	half := len(rows) / 2
	if err := p.try(ctx, topic, rows[:half]); err != nil {
		return err
	}
	return p.try(ctx, topic, rows[half:])
}

// passable leaves out rows of a unit that failed in this round, and those of shards
// that may have another owner by now. That a hold is due again says nothing here:
// writing the failure down may take longer than the pause, and the later rows of
// this batch would overtake the one that failed.
func (p *publication) passable(rows []claimed) []claimed {
	return slices.DeleteFunc(slices.Clone(rows), func(row claimed) bool {
		return p.failed[unitOf(row)] || !p.leases[row.shard].valid()
	})
}

// outage returns an error if the broker is away.
func (p *publication) outage(ctx context.Context, cause error) error {
	ping := p.worker.relay.config.Ping
	if ping == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if err := ping(ctx); err != nil {
		return fmt.Errorf("%w: %w", errOutage, cause)
	}
	return nil
}

const pingTimeout = 5 * time.Second

// fail holds a row and its key, or parks it. An error says that it is not the row:
// errRefused that its topic's part in the round ends, any other that the round does.
func (p *publication) fail(ctx context.Context, row claimed, cause error) error {
	w, relay := p.worker, p.worker.relay
	never := errors.Is(cause, dedup.ErrBadOutput)
	if !never {
		if err := p.outage(ctx, cause); err != nil {
			return err
		}
		p.part.streak++
	}
	published := relay.stats.published.Load()
	unit := unitOf(row)
	p.failed[unit] = true
	held := w.held[unit]
	if held == nil {
		// Units that are held already are counted and parked all the same, or there
		// would never be room again.
		if !never && len(w.held) >= maxHeld {
			p.part.crowded = fmt.Errorf("%w: %d keys are held: %w", errRefused, len(w.held), cause)
			return p.enough(cause)
		}
		held = &hold{shard: row.shard, pause: w.relay.rowPause(), published: p.before}
		w.held[unit] = held
	}
	// Without anybody to ask, what tells is whether other rows got through.
	counts := never || relay.config.Ping != nil || published > held.published
	held.topic = row.topic
	held.published = published
	held.until = time.Now().Add(held.pause.NextBackOff())
	if counts {
		if err := p.record(ctx, row, cause, never || row.attempts+1 >= relay.config.MaxAttempts); err != nil {
			return err
		}
	}
	return p.enough(cause)
}

// enough ends a topic's part in the round when it is not single rows that fail.
func (p *publication) enough(cause error) error {
	if p.part.streak < maxStreak {
		return nil
	}
	return fmt.Errorf("%w: %d messages in a row failed: %w", errRefused, p.part.streak, cause)
}

// record writes a failure down, and parks the row if it was the last one.
func (p *publication) record(ctx context.Context, row claimed, cause error, park bool) error {
	relay := p.worker.relay
	if err := relay.table.failed(ctx, row, p.leases[row.shard], reason(cause), park); err != nil {
		return err
	}
	relay.stats.failed.Add(1)
	if !park {
		relay.config.Logger.Debug("outbox row failed, its key waits", "row", row.id, "topic", row.topic, "key", row.key, "attempts", row.attempts+1, "error", cause)
		return nil
	}
	relay.stats.parked.Add(1)
	delete(p.worker.held, unitOf(row))
	delete(p.failed, unitOf(row)) // its key goes on
	relay.config.Logger.Error("outbox row parked: correct what is wrong, then hapax outbox retry or hapax outbox discard",
		"row", row.id, "topic", row.topic, "key", row.key, "attempts", row.attempts+1, "error", cause)
	return nil
}

// reason is an error's text as the column takes it.
func reason(err error) string {
	text := err.Error()
	return strings.ReplaceAll(strings.ToValidUTF8(text[:min(len(text), maxReason)], ""), "\x00", "")
}

const maxReason = 1000

// rowPause paces the tries of one row.
func (r *Relay) rowPause() *backoff.ExponentialBackOff {
	pause := r.patience()
	pause.MaxInterval = r.config.MaxRetryDelay
	return pause
}
