package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// What an operator asks for. All of it reads committed rows, without a lock.

const browsePage = 100

// page is some messages in order; visit is called for each, with its position.
func (b *Broker) page(ctx context.Context, topic string, after, end int64, since time.Time, visit func(position int64, msg *message.Message) error) (last int64, n int, err error) {
	rows, err := b.db.QueryContext(ctx, `
		SELECT position, uuid, metadata, payload FROM hapax_messages
		WHERE position > ? AND position <= ? AND created >= ? ORDER BY position LIMIT ?`, after, end, since.UnixMilli(), browsePage)
	if err != nil {
		return after, 0, fmt.Errorf("read topic %q: %w", topic, err)
	}
	type read struct {
		position int64
		msg      *message.Message
	}
	var list []read // read whole: visit may take its time, and may write
	for rows.Next() {
		var position int64
		var uuid, metadata string
		var payload []byte
		if err = rows.Scan(&position, &uuid, &metadata, &payload); err != nil {
			break
		}
		msg := message.NewMessage(uuid, payload)
		msg.Metadata = decodeMetadata(metadata)
		msg.SetContext(adapters.WithDelivery(ctx, &adapters.Delivery{Attempt: 1, Position: place(topic, position)}))
		list = append(list, read{position, msg})
	}
	if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
		return after, 0, fmt.Errorf("read topic %q: %w", topic, err)
	}
	for _, one := range list {
		if err := visit(one.position, one.msg); err != nil {
			return one.position, len(list), err
		}
		after = one.position
	}
	return after, len(list), nil
}

// extent returns the lowest position of a topic and that of its newest message;
// found is false when nothing was ever published to it.
func (b *Broker) extent(ctx context.Context, topic string) (low, end int64, found bool, err error) {
	var id, last int64
	err = b.db.QueryRowContext(ctx, `SELECT id, last FROM hapax_topics WHERE name = ?`, topic).Scan(&id, &last)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, 0, false, nil
	}
	if err != nil {
		return 0, 0, false, fmt.Errorf("look up topic %q: %w", topic, err)
	}
	low, _ = span(id)
	return low, low | last, true, nil
}

// Browse implements adapters.Browser.
func (b *Broker) Browse(ctx context.Context, topic string, options adapters.Browse, each func(*message.Message) error) error {
	var after int64
	for first := true; ; first = false {
		low, end, found, err := b.extent(ctx, topic)
		if first && !found && err == nil {
			err = options.Missing(topic)
		}
		after = max(after, low)
		for n := browsePage; found && err == nil && n == browsePage; {
			after, n, err = b.page(ctx, topic, after, end, options.From, func(_ int64, msg *message.Message) error { return each(msg) })
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil || !options.Follow:
			return err
		}
		select {
		case <-time.After(browsePoll):
		case <-ctx.Done():
			return nil
		}
	}
}

// browsePoll is how often a follower looks: a person does not notice.
const browsePoll = 50 * time.Millisecond

// Letters implements adapters.LetterBox. A removed letter leaves the topic; a group
// that had it pending is done with it.
func (b *Broker) Letters(ctx context.Context, topic string, visit func(*message.Message) (bool, error)) error {
	after, end, found, err := b.extent(ctx, topic)
	for n := browsePage; found && err == nil && n == browsePage; {
		var removed []int64
		after, n, err = b.page(ctx, topic, after, end, time.Time{}, func(position int64, msg *message.Message) error {
			remove, err := visit(msg)
			if remove && err == nil {
				removed = append(removed, position)
			}
			return err
		})
		err = errors.Join(err, b.remove(context.WithoutCancel(ctx), removed))
	}
	return err
}

func (b *Broker) remove(ctx context.Context, positions []int64) error {
	if len(positions) == 0 {
		return nil
	}
	err := b.group.Do(ctx, func(ctx context.Context, tx *sql.Tx) error {
		for _, position := range positions {
			if _, err := tx.ExecContext(ctx, `DELETE FROM hapax_pending WHERE position = ?`, position); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `DELETE FROM hapax_messages WHERE position = ?`, position); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove %d messages: %w", len(positions), err)
	}
	return nil
}

// Remember implements adapters.Rememberer.
func (b *Broker) Remember(ctx context.Context, _ string, options adapters.StrategyOptions, entries []*dedup.Entry) error {
	marks, err := b.openMarks(ctx, options.Window)
	if err != nil {
		return err
	}
	return marks.lookup(ctx, entries)
}
