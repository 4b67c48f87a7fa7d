package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/hapax-go/hapax/dedup"
)

// unit is what keeps its order: a key, or a single row that has none.
type unit struct {
	key string
	id  int64
}

func unitOf(row claimed) unit {
	if row.key != "" {
		return unit{key: row.key}
	}
	return unit{id: row.id}
}

// hold is why a unit waits.
type hold struct {
	shard int
	until time.Time
	pause *backoff.ExponentialBackOff
	// published is the relay's count at the last failure: if it has grown by the
	// next one, the broker is not what is at fault.
	published int64
}

const (
	// maxHeld units of a worker: if it is more, it is not the rows. No others are
	// held until there is room.
	maxHeld = 128
	// maxStreak single rows that fail one after the other end a round.
	maxStreak = 8
)

// hidden lists what is held and not yet due, for the claim to leave out.
func (w *worker) hidden() (keys []string, ids []int64) {
	now := time.Now()
	for unit, hold := range w.held {
		switch {
		case !hold.until.After(now):
		case unit.key != "":
			keys = append(keys, unit.key)
		default:
			ids = append(ids, unit.id)
		}
	}
	return keys, ids
}

// ready splits a batch into the rows of units that nothing is known against, and
// those of units that are held and due: of each of these only the first row, because
// whether the others can go is known after it. The former go first, and what may fail
// again holds them up as little as can be. Only when no more units can be held the
// others do: each that gets through or is parked makes room for one.
func (w *worker) ready(batch []claimed) (turns [2][]claimed) {
	if len(w.held) == 0 {
		return [2][]claimed{batch}
	}
	var fresh, due []claimed
	first := map[unit]bool{}
	for _, row := range batch {
		switch unit := unitOf(row); {
		case w.held[unit] == nil:
			fresh = append(fresh, row)
		case !first[unit]:
			first[unit] = true
			due = append(due, row)
		}
	}
	if len(w.held) >= maxHeld {
		return [2][]claimed{due, fresh}
	}
	return [2][]claimed{fresh, due}
}

// forget drops holds of shards that the worker has no lease of, and of units that
// are due and have no rows.
func (w *worker) forget(leases []lease, batch []claimed, complete bool) {
	if len(w.held) == 0 {
		return
	}
	shards, units := map[int]bool{}, map[unit]bool{}
	for _, lease := range leases {
		shards[lease.shard] = true
	}
	for _, row := range batch {
		units[unitOf(row)] = true
	}
	now := time.Now()
	for unit, hold := range w.held {
		gone := complete && !hold.until.After(now) && !units[unit]
		if gone || !shards[hold.shard] {
			delete(w.held, unit)
		}
	}
}

// publication is one round's batch on its way.
type publication struct {
	worker *worker
	leases map[int]lease
	sent   []claimed
	failed map[unit]bool // units of which a row failed in this round
	before int64         // the relay's count of published rows when the round began
	streak int
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
	return errors.Join(append(errs, p.worker.settle(ctx, p.sent))...)
}

// turn sends rows, topic by topic.
func (p *publication) turn(ctx context.Context, rows []claimed) error {
	var topics []string
	groups := map[string][]claimed{}
	var errs []error
	for _, row := range rows {
		if row.broken != nil {
			errs = append(errs, p.fail(ctx, row, fmt.Errorf("%w: row does not make a message: %w", dedup.ErrBadOutput, row.broken)))
			continue
		}
		if groups[row.topic] == nil {
			topics = append(topics, row.topic)
		}
		groups[row.topic] = append(groups[row.topic], row)
	}
	for _, topic := range topics {
		if err := p.try(ctx, topic, groups[topic]); err != nil {
			errs = append(errs, err)
			break
		}
	}
	return errors.Join(errs...)
}

// try sends rows of one topic; when that fails, each half, and so on, so that in
// the end the rows at fault stand alone.
func (p *publication) try(ctx context.Context, topic string, rows []claimed) error {
	rows = p.passable(rows)
	if len(rows) == 0 {
		return nil
	}
	err := p.worker.send(ctx, topic, rows)
	if err == nil {
		p.streak = 0
		p.sent = append(p.sent, rows...)
		for _, row := range rows {
			delete(p.worker.held, unitOf(row))
		}
		return nil
	}
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

// fail holds a row and its key, or parks it. An error says that it is not the
// row: the round ends.
func (p *publication) fail(ctx context.Context, row claimed, cause error) error {
	w, relay := p.worker, p.worker.relay
	never := errors.Is(cause, dedup.ErrBadOutput)
	if !never {
		if err := p.outage(ctx, cause); err != nil {
			return err
		}
		p.streak++
	}
	published := relay.stats.published.Load()
	unit := unitOf(row)
	held := w.held[unit]
	if held == nil {
		// Units that are held already are counted and parked all the same, or there
		// would never be room again.
		if !never && len(w.held) >= maxHeld {
			return fmt.Errorf("%w: %d keys are held: %w", errOutage, len(w.held), cause)
		}
		held = &hold{shard: row.shard, pause: w.relay.rowPause(), published: p.before}
		w.held[unit] = held
	}
	// Without anybody to ask, what tells is whether other rows got through.
	counts := never || relay.config.Ping != nil || published > held.published
	p.failed[unit] = true
	held.published = published
	held.until = time.Now().Add(held.pause.NextBackOff())
	if counts {
		if err := p.record(ctx, row, cause, never || row.attempts+1 >= relay.config.MaxAttempts); err != nil {
			return err
		}
	}
	if p.streak >= maxStreak {
		return fmt.Errorf("%w: %d messages in a row failed: %w", errOutage, p.streak, cause)
	}
	return nil
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
