package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/hapax-go/hapax/adapters/redis/internal/marks"
	"github.com/hapax-go/hapax/dedup"
)

// query is one Strategy.Claim that waits for its verdicts.
type query struct {
	set     marks.Set
	lookups []lookup
	// outcome has room for one: nil when the verdicts are there.
	outcome chan error
}

type lookup struct {
	event *dedup.Event
	mark
	verdict dedup.Verdict
}

func (q *query) takesLeases() bool {
	return slices.ContainsFunc(q.lookups, func(l lookup) bool { return l.token != 0 })
}

const lookupBatch = 256

// ask brings a query into the next call of the claim script, and waits for as long
// as the call may take, or until the member is none any more. It does not wait for the
// message's own context: asking each for its end would register it with the member's,
// which costs more than the answer. A caller that leaves is not written to: the
// verdicts are copied to the events here.
func (m *membership) ask(q *query) error {
	m.queries.add(q)
	select {
	case err := <-q.outcome:
		if err != nil {
			return err
		}
	case <-m.ctx.Done():
		return context.Cause(m.ctx)
	}
	for i := range q.lookups {
		q.lookups[i].event.Verdict = q.lookups[i].verdict
	}
	return nil
}

// answer runs a batch of queries: a call for each set of marks, which is one as long
// as a subscription has one handler.
func (m *membership) answer(queries []*query) {
	for len(queries) > 0 {
		set := queries[0].set
		same, rest := queries, []*query(nil)
		if slices.ContainsFunc(queries, func(q *query) bool { return q.set != set }) {
			same = nil
			for _, q := range queries {
				if q.set == set {
					same = append(same, q)
				} else {
					rest = append(rest, q)
				}
			}
		}
		err := m.lookup(set, same)
		for _, q := range same {
			q.outcome <- err
		}
		queries = rest
	}
}

func (m *membership) lookup(set marks.Set, queries []*query) error {
	ctx, cancel := context.WithTimeout(context.Background(), m.consumer.broker.config.Timeout)
	defer cancel()
	if m.consumer.broker.config.Mode != Cluster && !slices.ContainsFunc(queries, (*query).takesLeases) {
		if err := m.peek(ctx, set, queries); !errors.Is(err, marks.ErrCannotPeek) {
			return err
		}
	}
	return m.claim(ctx, set, queries)
}

// peek looks up the marks for optimistic claims, which take nothing. In a cluster each node
// has its own clock, and the one to ask is known to scripts only.
func (m *membership) peek(ctx context.Context, set marks.Set, queries []*query) error {
	c := m.consumer
	peek := m.peeks[set]
	if peek == nil {
		peek = marks.NewPeek(set, c.keys.windows)
		m.peeks[set] = peek
	}
	ids := make([]dedup.ID, 0, len(queries))
	for _, q := range queries {
		for i := range q.lookups {
			ids = append(ids, q.lookups[i].id)
		}
	}
	var member *redis.FloatCmd
	found, err := peek.Look(ctx, c.broker.client, ids, func(pipe redis.Pipeliner) { member = pipe.ZScore(ctx, c.keys.members, m.name) })
	if errors.Is(member.Err(), redis.Nil) {
		return dedup.ErrLeaseLost // it need not begin what it cannot commit
	}
	if err != nil {
		return fmt.Errorf("look up marks on redis: %w", err)
	}
	for _, q := range queries {
		for i := range q.lookups {
			q.lookups[i].learn(found[0])
			found = found[1:]
		}
	}
	return nil
}

func (l *lookup) learn(found marks.Found) {
	l.place, l.verdict = found.Place, dedup.Fresh
	switch {
	case found.Marked && found.Tag.Differs(l.tag):
		l.verdict = dedup.Conflict
	case found.Marked:
		l.verdict = dedup.Duplicate
	}
}

// claim looks up the marks, and takes leases for pessimistic claims.
func (m *membership) claim(ctx context.Context, set marks.Set, queries []*query) error {
	c := m.consumer
	// A lease outlives its consumer's by a window: until then a claim that nobody
	// contests may still commit.
	args := append(make([]any, 0, 4+len(queries)), m.name, set.SliceLength(), 0, (set.Window + c.broker.config.Lease).Milliseconds())
	count := 0
	for _, q := range queries {
		for i := range q.lookups {
			args = append(args, &q.lookups[i].mark)
			count++
		}
	}
	keys := []string{c.keys.members, set.Key, c.leases, c.keys.windows}
	results, err := claimScript.Run(ctx, c.broker.client, keys, args...).Int64Slice()
	if errors.Is(err, redis.Nil) {
		return dedup.ErrLeaseLost
	}
	if err != nil {
		return fmt.Errorf("look up marks on redis: %w", err)
	}
	if len(results) != count {
		return fmt.Errorf("look up marks on redis: the script answered %d of %d", len(results), count)
	}
	for _, q := range queries {
		for i := range q.lookups {
			q.lookups[i].verdict, results = dedup.Verdict(results[0]), results[1:]
		}
	}
	return nil
}
