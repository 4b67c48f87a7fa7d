package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
)

// counters count since Open, over all consumers.
type counters struct {
	transactions, aborts, unknown, rebalances, lost atomic.Int64
}

// Stats is the state of a Broker.
type Stats struct {
	// Transactions were committed, Aborts aborted. Unknown counts the commits
	// that were not answered and had to be looked up; they are among one of the
	// two.
	Transactions, Aborts, Unknown int64
	// Rebalances counts assignments, and LostPartitions those that the group
	// took away without asking.
	Rebalances, LostPartitions int64
	// IDs is the number of processed IDs in memory, and IDBytes what they take.
	IDs     int
	IDBytes int64
	// Groups are the groups that this Broker has consumers of.
	Groups []GroupStats
}

// GroupStats is the state of one consumer group on a topic.
type GroupStats struct {
	Topic, Group string
	// Lag is how many offsets the group is behind the end of the topic: messages,
	// and markers of transactions.
	Lag int64
	// Pending counts the messages received here that are not settled.
	Pending int64
	// Partitions counts those assigned here.
	Partitions int
}

// Stats asks the cluster for the lag of this Broker's groups, and counts.
func (b *Broker) Stats(ctx context.Context) (Stats, error) {
	stats := Stats{
		Transactions: b.counters.transactions.Load(), Aborts: b.counters.aborts.Load(), Unknown: b.counters.unknown.Load(),
		Rebalances: b.counters.rebalances.Load(), LostPartitions: b.counters.lost.Load(), IDBytes: b.idMemory.Load(),
	}
	groups := map[[2]string]*GroupStats{}
	names := map[[2]string]string{}
	for _, c := range b.consumers() {
		key := [2]string{c.topic, c.subscription.Group}
		group := groups[key]
		if group == nil {
			group = &GroupStats{Topic: key[0], Group: key[1]}
			groups[key], names[key] = group, c.name
		}
		for _, p := range c.owned() {
			group.Partitions++
			group.Pending += p.progress.unsettled()
			stats.IDs += p.known()
		}
	}
	keys := slices.SortedFunc(maps.Keys(groups), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	for _, key := range keys {
		lag, err := b.lag(ctx, key[1], names[key])
		if err != nil && !errors.Is(err, ErrNoOffsets) {
			return stats, fmt.Errorf("read lag of group %q on topic %q: %w", key[1], key[0], err)
		}
		groups[key].Lag = lag
		stats.Groups = append(stats.Groups, *groups[key])
	}
	return stats, nil
}

// ErrNoOffsets: a group has committed no offsets of a topic.
var ErrNoOffsets = errors.New("the group has committed no offsets")

// Lag returns how many offsets a group is behind the end of a topic. ErrNoOffsets
// when it has never committed one.
func (b *Broker) Lag(ctx context.Context, group, topic string) (int64, error) {
	name, err := b.topicName(topic)
	if err == nil {
		var lag int64
		if lag, err = b.lag(ctx, group, name); err == nil {
			return lag, nil
		}
	}
	return 0, fmt.Errorf("read lag of group %q on topic %q: %w", group, topic, err)
}

func (b *Broker) lag(ctx context.Context, group, name string) (lag int64, err error) {
	stretches, err := b.extent(ctx, name)
	if err != nil {
		return 0, err
	}
	committed, err := b.admin.FetchOffsets(ctx, group)
	if err != nil {
		return 0, err
	}
	err = ErrNoOffsets
	for number, s := range stretches {
		at := s.from
		if offset, found := committed.Lookup(name, number); found && offset.At >= 0 {
			at, err = max(at, offset.At), nil
		}
		lag += max(s.to-at, 0)
	}
	return lag, err
}

func (b *Broker) consumers() (list []*consumer) {
	b.mu.Lock()
	subscribers := slices.Collect(maps.Keys(b.subscribers))
	b.mu.Unlock()
	for _, s := range subscribers {
		list = append(list, s.consumers.All()...)
	}
	return list
}

func (p *partition) known() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ids == nil {
		return 0
	}
	return p.ids.count
}

func (p *progress) unsettled() (n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.offsets {
		if o.state != settled {
			n++
		}
	}
	return n
}
