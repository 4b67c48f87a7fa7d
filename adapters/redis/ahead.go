package redis

import (
	"context"
	"fmt"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// publishAhead, in a cluster, publishes the outputs that live on another node than
// the input: no script reaches both. What is published cannot be taken back, so it
// takes leases first, whatever the kind of the claim: a consumer that was taken over
// and the later of two copies publish nothing. What is left is a worker that is
// killed, or loses its lease, between the publishing and the commit. Its outputs'
// IDs are derived (I7), so the next consumer sees that they are copies. The units that
// did not get through are finished; the rest is returned.
func (m *membership) publishAhead(ctx context.Context, units []*unit) (rest []*unit) {
	var with []*unit
	ahead, left := map[*unit][]encoded{}, map[*unit][]encoded{}
	for _, u := range units {
		var here, there []encoded
		for _, output := range u.outputs {
			if hashTag(output.topic) == hashTag(m.consumer.topic) {
				here = append(here, output)
			} else {
				there = append(there, output)
			}
		}
		if len(there) > 0 {
			with, ahead[u], left[u] = append(with, u), there, here
		} else {
			rest = append(rest, u)
		}
	}
	with = m.leased(with)
	if len(with) == 0 {
		return rest
	}
	if err := failpoint.Hit(failpoint.BeforePublish); err != nil {
		return finished(rest, with, err)
	}
	lots := make([][]encoded, len(with))
	for i, u := range with {
		lots[i] = ahead[u]
	}
	var published []*unit
	for i, err := range m.consumer.broker.append(ctx, lots) {
		u := with[i]
		if err != nil {
			u.finish(fmt.Errorf("publish outputs: %w", err))
			continue
		}
		u.outputs = left[u] // not before: one that is tried again must still have all
		published = append(published, u)
	}
	if err := failpoint.Hit(failpoint.AfterPublish); err != nil {
		return finished(rest, published, err)
	}
	return append(rest, published...)
}

// finished finishes units with an error, and returns the rest.
func finished(rest, units []*unit, err error) []*unit {
	for _, u := range units {
		u.finish(fmt.Errorf("publish outputs: %w", err))
	}
	return rest
}

// leased takes the units' leases, finishes those that cannot have them, and returns
// the others. Units without marks, dead letters, need none.
func (m *membership) leased(units []*unit) (mine []*unit) {
	var queries []*query
	asked := map[*unit]*query{}
	for _, u := range units {
		if len(u.marks) == 0 {
			continue
		}
		q := &query{set: u.set, outcome: make(chan error, 1)}
		for j := range u.marks {
			if u.marks[j].token == 0 {
				u.marks[j].token = u.marks[j].spare
			}
			q.lookups = append(q.lookups, lookup{mark: u.marks[j]})
		}
		queries, asked[u] = append(queries, q), q
	}
	m.answer(queries)
	for _, u := range units {
		if err := asked[u].refusal(); err != nil {
			u.finish(err)
			continue
		}
		mine = append(mine, u)
	}
	return mine
}

// refusal is why what was asked for cannot commit; nil when it can, or nothing was.
func (q *query) refusal() error {
	if q == nil {
		return nil
	}
	if err := <-q.outcome; err != nil {
		return err
	}
	for _, look := range q.lookups {
		if err := refusal(look.verdict); err != nil {
			return err
		}
	}
	return nil
}

func refusal(verdict dedup.Verdict) error {
	switch verdict {
	case dedup.Duplicate:
		return dedup.ErrLostRace
	case dedup.Conflict:
		return dedup.ErrConflict
	case dedup.InFlight:
		return dedup.ErrInFlight
	default:
		return nil
	}
}
