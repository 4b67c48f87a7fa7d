package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hapax-go/hapax/outbox/inbox"
)

// membership is a consumer's registration under one owner ID, from joining until
// it leaves or is taken for dead. A consumer that was taken for dead (it was
// stopped, or could not write for longer than its lease) joins anew under another
// ID: whatever it still does in the old one's name finds no row to delete.
type membership struct {
	consumer *consumer
	group    int64
	owner    int64
	ctx      context.Context // ends with errLeaseLost, or when draining is over
	cancel   context.CancelCauseFunc
}

func (m *membership) until(now time.Time) int64 {
	return millis(now.Add(m.consumer.broker.config.LeaseDuration))
}

// lost reports whether the member was taken for dead.
func (m *membership) lost() bool { return context.Cause(m.ctx) == errLeaseLost } //nolint:errorlint // the very value

// joinGroup registers a group, at the topic's beginning, and returns its ID.
func (b *Broker) joinGroup(ctx context.Context, topic, group string) (ids [2]int64, err error) {
	// Reading first spares the writer on every start but the first.
	const find = `SELECT t.id, g.id FROM hapax_topics t JOIN hapax_groups g ON g.topic = t.id WHERE t.name = ? AND g.name = ?`
	if err = b.db.QueryRowContext(ctx, find, topic, group).Scan(&ids[0], &ids[1]); err == nil {
		return ids, nil
	}
	err = b.register(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO hapax_topics (name, last) VALUES (?, 0) ON CONFLICT DO NOTHING`, topic); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO hapax_groups (topic, name, cursor) SELECT id, ?, id << 40 FROM hapax_topics WHERE name = ? ON CONFLICT DO NOTHING`, group, topic); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, find, topic, group).Scan(&ids[0], &ids[1])
	})
	if err != nil {
		return ids, fmt.Errorf("register group %q: %w", group, err)
	}
	return ids, nil
}

// register runs a unit again when the COMMIT has failed that it shared with others: it may
// be the fault of a handler, of whose rows a deferred constraint refuses some, and no
// subscription is to fail for that. The unit may have been applied.
func (b *Broker) register(ctx context.Context, unit func(context.Context, *sql.Tx) error) error {
	const tries = 20 // a disk that is full fails every time
	for try := 1; ; try++ {
		err := b.group.Do(ctx, unit)
		if try == tries || !errors.Is(err, inbox.ErrCommitUnknown) || ctx.Err() != nil {
			return err
		}
	}
}

// join registers a new member. It replaces an earlier membership of the same
// consumer, whose rows it frees if nobody else has done so.
func (c *consumer) join(ctx context.Context, values context.Context, old *membership) (*membership, error) {
	m := &membership{consumer: c, group: c.group, owner: newOwner()}
	err := c.broker.register(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if old != nil {
			if err := old.leave(ctx, tx); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO hapax_consumers (id, grp, lease_until) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until`, m.owner, m.group, m.until(time.Now()))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("join group %q: %w", c.subscription.Group, err)
	}
	m.ctx, m.cancel = context.WithCancelCause(context.WithoutCancel(values))
	return m, nil
}

// leave frees what the member holds and removes it, in the writer's transaction.
func (m *membership) leave(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, `UPDATE hapax_pending SET owner = 0, mail = 0 WHERE grp = ? AND owner = ?`, m.group, m.owner); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM hapax_consumers WHERE id = ?`, m.owner)
	return err
}

// heartbeat renews the lease: one row for the consumer, however many messages it
// holds.
func (m *membership) heartbeat(ctx context.Context) error {
	var renewed int64
	err := m.consumer.broker.group.Do(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		renewed, err = m.renew(ctx, tx)
		return err
	})
	if err == nil && renewed == 0 {
		m.cancel(errLeaseLost)
	}
	return err
}

func (m *membership) renew(ctx context.Context, tx *sql.Tx) (int64, error) {
	until := m.until(time.Now())
	if m.consumer.broker.frozen.Load() {
		until = 0
	}
	return affected(tx.ExecContext(ctx, `UPDATE hapax_consumers SET lease_until = max(lease_until, ?) WHERE id = ?`, until, m.owner))
}
