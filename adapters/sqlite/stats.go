package sqlite

import (
	"context"
	"fmt"
)

// GroupStats is the state of one consumer group.
type GroupStats struct {
	Topic, Group string
	// Backlog counts the messages that nobody has claimed yet.
	Backlog int64
	// Pending counts those claimed and not acknowledged.
	Pending int64
	// Consumers counts the members whose lease stands.
	Consumers int64
}

// Stats returns the state of every group, as of one moment. A group has drained
// when its Backlog and Pending are zero.
func (b *Broker) Stats(ctx context.Context) ([]GroupStats, error) {
	rows, err := b.db.QueryContext(ctx, `
		SELECT t.name, g.name,
			(SELECT count(*) FROM hapax_messages WHERE position > g.cursor AND position <= (t.id << 40) + 0xFFFFFFFFFF),
			(SELECT count(*) FROM hapax_pending WHERE grp = g.id),
			(SELECT count(*) FROM hapax_consumers WHERE grp = g.id AND lease_until >= unixepoch('subsec') * 1000)
		FROM hapax_groups g JOIN hapax_topics t ON t.id = g.topic ORDER BY t.name, g.name`)
	if err != nil {
		return nil, fmt.Errorf("read group stats: %w", err)
	}
	defer rows.Close()
	var list []GroupStats
	for rows.Next() {
		var s GroupStats
		if err := rows.Scan(&s.Topic, &s.Group, &s.Backlog, &s.Pending, &s.Consumers); err != nil {
			return nil, fmt.Errorf("read group stats: %w", err)
		}
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read group stats: %w", err)
	}
	return list, nil
}
