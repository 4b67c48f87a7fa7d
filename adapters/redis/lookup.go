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
	c := m.consumer
	ctx, cancel := context.WithTimeout(context.Background(), c.broker.config.Timeout)
	defer cancel()
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
