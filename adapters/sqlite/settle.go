package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/outbox/inbox"
)

// deleteClaimed acknowledges messages. A row that is gone, or somebody else's by
// now, is left alone.
func deleteClaimed(ctx context.Context, tx *sql.Tx, rows []claimed) error {
	for _, row := range rows {
		if err := failpoint.Hit(failpoint.BeforeAck); err != nil {
			return err
		}
		if _, err := row.delete(ctx, tx); err != nil {
			return fmt.Errorf("acknowledge: %w", err)
		}
	}
	return nil
}

// delete removes the pending row if it is still its owner's. That is the fence:
// whoever took the row over has put another owner into it (I5).
func (r claimed) delete(ctx context.Context, tx *sql.Tx) (bool, error) {
	n, err := affected(tx.ExecContext(ctx, `DELETE FROM hapax_pending WHERE grp = ? AND lane = ? AND position = ? AND owner = ?`,
		r.group, r.lane, r.position, r.owner))
	return n > 0, err
}

// ack deletes a pending row, together with those of other messages. It is tried
// until it works: a row left behind would be handed out again after a restart.
func (c *consumer) ack(row claimed) {
	c.settled.Add(1)
	c.submit(row, 10*time.Millisecond)
}

func (c *consumer) submit(row claimed, pause time.Duration) {
	c.broker.acks.Go(row, func(err error) {
		switch {
		case err == nil:
			c.broker.wakes.waiting()
			_ = failpoint.Hit(failpoint.AfterAck)
		case errors.Is(err, inbox.ErrClosed):
		default:
			time.AfterFunc(pause, func() { c.submit(row, min(2*pause, time.Second)) })
			return
		}
		c.settled.Done()
	})
}

// recount says how often a message was handed out.
type recount struct {
	claimed
	attempts int
}

func storeAttempts(ctx context.Context, tx *sql.Tx, counts []recount) error {
	for _, c := range counts {
		_, err := tx.ExecContext(ctx, `UPDATE hapax_pending SET attempts = ? WHERE grp = ? AND lane = ? AND position = ? AND owner = ?`,
			c.attempts, c.group, c.lane, c.position, c.owner)
		if err != nil {
			return fmt.Errorf("store attempts: %w", err)
		}
	}
	return nil
}

// recount stores the number of attempts. Losing it to a crash allows one attempt
// more, so nobody waits for it.
func (c *consumer) recount(row claimed, attempts int) {
	c.settled.Add(1)
	c.broker.recounts.Go(recount{row, attempts}, func(err error) {
		if err != nil {
			c.broker.config.Logger.Warn("count an attempt", "topic", c.topic, "error", err)
		}
		c.settled.Done()
	})
}

// bury moves a message to the dead-letter topic. When that cannot be done now,
// the row stays claimed and it is tried again.
func (c *consumer) bury(d *delivery, reason string) {
	letter := message.NewMessage(d.uuid, d.payload)
	letter.Metadata = decodeMetadata(d.metadata)
	maps.Copy(letter.Metadata, message.Metadata{
		dedup.MetaDeadReason: reason, dedup.MetaDeadTopic: c.topic, dedup.MetaDeadAttempts: strconv.Itoa(d.attempts),
		dedup.MetaDeadGroup: c.subscription.Group,
	})
	c.broker.config.Logger.Error("message goes to the dead-letter topic", "topic", c.topic, "position", d.Position, "reason", reason)
	c.settled.Go(func() {
		for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
			err := c.broker.bury(c.broker.ctx, d.row, dedup.Output{Topic: c.subscription.LetterTopic(c.topic), Message: letter})
			if err == nil || errors.Is(err, dedup.ErrLeaseLost) || errors.Is(err, inbox.ErrClosed) || c.broker.ctx.Err() != nil {
				signal(c.wake)
				return
			}
			c.broker.config.Logger.Error("dead-letter message: trying again", "position", d.Position, "error", err)
			select {
			case <-time.After(pause):
			case <-c.broker.ctx.Done():
			}
		}
	})
}

// bury deletes a pending row and inserts the letter, in one transaction.
// dedup.ErrLeaseLost when the row is somebody else's: then it is for them to do.
func (b *Broker) bury(ctx context.Context, row claimed, letter dedup.Output) error {
	encoded, err := b.encode(letter.Topic, letter.Message, time.Now())
	if err != nil {
		return err
	}
	addition := &publication{topic: letter.Topic, rows: []stored{encoded}}
	err = b.group.Do(ctx, func(ctx context.Context, tx *sql.Tx) error {
		mine, err := row.delete(ctx, tx)
		if err != nil || !mine {
			return errors.Join(err, ownership(mine))
		}
		return insertPublications(ctx, tx, []*publication{addition})
	})
	if err == nil {
		b.wakes.topic(letter.Topic)
		b.wakes.waiting()
	}
	return err
}

func ownership(mine bool) error {
	if mine {
		return nil
	}
	return dedup.ErrLeaseLost
}

// postpone remembers that an abandoned message was waiting for its redelivery.
func (c *consumer) postpone(row claimed, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.postponed[row] = until
}

// close drains the flow and leaves the group. What was handed out may finish; the
// rest is freed for other members. Killed anywhere in here, or when the file cannot be
// written to: the lease runs out.
func (c *consumer) close() error {
	c.stop()
	c.claiming.Wait()
	c.broker.wakes.remove(c)
	ctx, cancel := context.WithTimeout(context.Background(), c.subscription.DrainTimeout)
	defer cancel()
	if err := c.flow.Drain(ctx); err != nil {
		c.broker.config.Logger.Warn("drain subscription: other members take over the rest", "topic", c.topic, "group", c.subscription.Group, "error", err)
	}
	m := c.current.Load()
	m.cancel(errDraining)
	err := c.part(m)
	c.depart()
	c.beating.Wait()
	c.broker.wakes.topic(c.topic)
	return err
}

// part waits for what is being settled, and takes the consumer out of its group: as
// far as the file can be written to.
func (c *consumer) part(m *membership) error {
	ctx, cancel := context.WithTimeout(context.Background(), parting)
	defer cancel()
	settled := make(chan struct{})
	go func() { // ends with the broker, at the latest
		c.settled.Wait()
		close(settled)
	}()
	select {
	case <-settled:
	case <-ctx.Done():
	}
	err := c.broker.group.Do(ctx, func(ctx context.Context, tx *sql.Tx) error {
		for row, until := range c.postponed {
			// The whole lane waits for it.
			_, err := tx.ExecContext(ctx, `UPDATE hapax_pending SET visible_at = ? WHERE grp = ? AND lane = ? AND owner = ?`,
				millis(until), row.group, row.lane, row.owner)
			if err != nil {
				return err
			}
		}
		return m.leave(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("leave group %q of %q: %w: others take over what it held when its lease of %s has run out",
			c.subscription.Group, c.topic, err, c.broker.config.LeaseDuration)
	}
	return nil
}
