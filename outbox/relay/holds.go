package relay

import (
	"time"

	"github.com/cenkalti/backoff/v5"
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
	topic string // of the row that failed
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
	// maxStreak single rows of a topic that fail one after the other end its part in
	// a round.
	maxStreak = 8
)

// rest is why a topic waits: the broker refuses messages of it. If it is all of them,
// they would fill the batches, and those of other topics stand behind.
type rest struct {
	until time.Time
	pause *backoff.ExponentialBackOff
	told  bool
}

// hidden is what a claim leaves out.
type hidden struct {
	keys   []string
	ids    []int64
	topics []string
}

// hidden lists what is held and not yet due, and the topics that rest.
func (w *worker) hidden(now time.Time) (h hidden) {
	for topic := range w.rests {
		if w.resting(topic, now) {
			h.topics = append(h.topics, topic)
		}
	}
	for unit, hold := range w.held {
		switch {
		case !w.waits(hold, now):
		case unit.key != "":
			h.keys = append(h.keys, unit.key)
		default:
			h.ids = append(h.ids, unit.id)
		}
	}
	return h
}

func (w *worker) resting(topic string, now time.Time) bool {
	rest := w.rests[topic]
	return rest != nil && rest.until.After(now)
}

// waits reports whether a unit is not due: while the topic of the row that failed
// rests, nobody sees that row, and the unit's rows of other topics would overtake it.
func (w *worker) waits(hold *hold, now time.Time) bool {
	return hold.until.After(now) || w.resting(hold.topic, now)
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

// forget drops holds of shards that the worker has no lease of, and what is due and has
// no rows: they were parked or discarded by hand, or another relay published them. Of
// shards that the claim did not read to their end nothing is known: there the rows may
// wait behind those of the batch, and without the hold their pauses would begin anew.
func (w *worker) forget(leases []lease, batch []claimed, read map[int]bool) {
	if len(w.held) == 0 && len(w.rests) == 0 {
		return
	}
	units, topics := map[unit]bool{}, map[string]bool{}
	for _, row := range batch {
		units[unitOf(row)], topics[row.topic] = true, true
	}
	owned, all := map[int]bool{}, true
	for _, lease := range leases {
		owned[lease.shard] = true
		all = all && read[lease.shard]
	}
	for unit, hold := range w.held {
		gone := read[hold.shard] && !w.waits(hold, w.looked) && !units[unit]
		if gone || !owned[hold.shard] {
			delete(w.held, unit)
			continue
		}
		topics[hold.topic] = true
	}
	for topic := range w.rests {
		if all && !w.resting(topic, w.looked) && !topics[topic] {
			delete(w.rests, topic)
		}
	}
}
