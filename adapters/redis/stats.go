package redis

import (
	"context"
	"fmt"
)

// GroupStats is the state of one consumer group of a stream.
type GroupStats struct {
	Topic, Group string
	// Backlog counts the entries that nobody has read yet.
	Backlog int64
	// Pending counts those read and not acknowledged.
	Pending int64
	// Consumers counts the names the server knows, the dead included.
	Consumers int64
}

// Losses counts the messages that this broker's consumers found to be trimmed or
// deleted before they were acknowledged, since it was opened.
func (b *Broker) Losses() int64 { return b.losses.Load() }

// Stats returns the state of the groups of topics. A group has drained when its
// Backlog and Pending are zero.
func (b *Broker) Stats(ctx context.Context, topics ...string) ([]GroupStats, error) {
	var list []GroupStats
	for _, topic := range topics {
		groups, err := b.client.XInfoGroups(ctx, topic).Result()
		if isGone(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read groups of stream %q: %w", topic, err)
		}
		for _, group := range groups {
			backlog := group.Lag
			// The server does not always know the lag: never after a deletion in
			// the middle, and not before version 7.
			if backlog <= 0 {
				if backlog, err = b.countAfter(ctx, topic, group.LastDeliveredID); err != nil {
					return nil, err
				}
			}
			list = append(list, GroupStats{Topic: topic, Group: group.Name, Backlog: backlog, Pending: group.Pending, Consumers: group.Consumers})
		}
	}
	return list, nil
}

// countAfter counts the entries after an ID, up to a thousand.
func (b *Broker) countAfter(ctx context.Context, topic, id string) (int64, error) {
	entries, err := b.client.XRangeN(ctx, topic, "("+id, "+", 1000).Result()
	if err != nil {
		return 0, fmt.Errorf("count entries of stream %q: %w", topic, err)
	}
	return int64(len(entries)), nil
}
