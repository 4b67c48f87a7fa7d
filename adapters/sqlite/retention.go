package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

const (
	sweepInterval = time.Minute
	// sweepChunk bounds how long the sweep holds the writer: some milliseconds.
	sweepChunk = 200
)

// sweep removes what nobody needs any more, until Close: messages that every
// group is done with, marks whose window is over, members that died in a group
// where nobody lives to notice. In small pieces, because there is one writer.
func (b *Broker) sweep() {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-ticker.C:
		}
		if err := b.Sweep(b.ctx); err != nil && b.ctx.Err() == nil {
			b.config.Logger.Warn("sweep: trying again in a minute", "file", b.config.Path, "error", err)
		}
	}
}

// Sweep does at once what the broker does every minute by itself: it removes
// messages and marks that are past their time.
func (b *Broker) Sweep(ctx context.Context) error {
	topics, err := b.topics(ctx)
	if err != nil {
		return err
	}
	for _, topic := range topics {
		for removed := int64(sweepChunk); removed == sweepChunk; {
			if err := b.group.Do(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
				removed, err = b.removeMessages(ctx, tx, topic, time.Now())
				return err
			}); err != nil {
				return fmt.Errorf("remove messages past their time: %w", err)
			}
		}
	}
	if err := b.group.Do(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := reap(ctx, tx, time.Now())
		return err
	}); err != nil {
		return fmt.Errorf("remove dead consumers: %w", err)
	}
	b.mu.Lock()
	ledgers := make([]*marks, 0, len(b.marks))
	for _, m := range b.marks {
		ledgers = append(ledgers, m)
	}
	b.mu.Unlock()
	for _, ledger := range ledgers {
		if _, err := ledger.Expire(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}

func (b *Broker) topics(ctx context.Context) ([]int64, error) {
	rows, err := b.db.QueryContext(ctx, `SELECT id FROM hapax_topics`)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	defer rows.Close()
	var topics []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("list topics: %w", err)
		}
		topics = append(topics, id)
	}
	return topics, rows.Err()
}

// removeMessages removes a topic's oldest messages, up to a chunk: those older
// than the retention that lie below every group's cursor and below every pending
// row. The limits are read in the same transaction, so that no group can appear
// in between. A topic without groups keeps its messages for MaxAge.
func (b *Broker) removeMessages(ctx context.Context, tx *sql.Tx, topic int64, now time.Time) (int64, error) {
	low, high := span(topic)
	var groups int
	var done int64
	err := tx.QueryRowContext(ctx, `
		SELECT count(*), coalesce(min(min(g.cursor, coalesce((SELECT min(p.position) - 1 FROM hapax_pending p WHERE p.grp = g.id), g.cursor))), 0)
		FROM hapax_groups g WHERE g.topic = ?`, topic).Scan(&groups, &done)
	if err != nil {
		return 0, err
	}
	age := b.config.Retention
	if groups == 0 {
		age, done = b.config.MaxAge, high
	}
	if age < 0 || groups == 0 && age == 0 {
		return 0, nil
	}
	return affected(tx.ExecContext(ctx, `DELETE FROM hapax_messages WHERE position IN (
		SELECT position FROM (SELECT position, created FROM hapax_messages WHERE position > ? AND position <= ? ORDER BY position LIMIT ?) WHERE created <= ?)`,
		low, done, sweepChunk, millis(now.Add(-age))))
}
