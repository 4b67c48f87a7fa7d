package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/errgroup"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/plain"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// rawConnections is how many transactions run side by side in the loop by hand.
const rawConnections = 32

// byHand is a transaction for each message: mark, effect, output.
func (l *inboxLane) byHand(ctx context.Context, load Load, meter *Meter) error {
	mark := `INSERT INTO hapax_inbox (generation, id, digest, service, handler, event_id, event_type) VALUES (1, $1, $2, 'bench', 'orders', $3, 'orders') ON CONFLICT DO NOTHING`
	effect := `INSERT INTO effects (event) VALUES ($1)`
	if l.dialect == sqldb.MySQL {
		mark = `INSERT IGNORE INTO hapax_inbox (generation, id, digest, token, service, handler, event_id, event_type, processed_at) VALUES (1, ?, ?, 0, 'bench', 'orders', ?, 'orders', UTC_TIMESTAMP(6))`
		effect = `INSERT INTO effects (event) VALUES (?)`
	}
	config := outbox.Config{Dialect: l.dialect}
	one := func(ctx context.Context, msg *message.Message) error {
		tx, err := l.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() //nolint:errcheck // after a COMMIT it does nothing
		id, digest := dedup.NewID(scope, msg.UUID), dedup.NewDigest(msg.Payload)
		var key, sum any = id[:], digest[:]
		if l.dialect == sqldb.Postgres {
			key, sum = [16]byte(id), [16]byte(digest)
		}
		result, err := tx.ExecContext(ctx, mark, key, sum, msg.UUID)
		if err != nil {
			return fmt.Errorf("mark: %w", err)
		}
		if fresh, err := result.RowsAffected(); err != nil || fresh == 0 {
			return err // a copy
		}
		made, err := l.watch.handle(msg)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, effect, msg.UUID); err != nil {
			return err
		}
		for _, output := range made {
			if err := config.Store(ctx, tx, []dedup.Output{{Topic: outputs, Message: output}}); err != nil {
				return err
			}
		}
		return tx.Commit()
	}
	source := newSource(l.env)
	workers, shared := errgroup.WithContext(ctx)
	for range rawConnections {
		workers.Go(func() error {
			for msg := range source.out {
				if err := one(shared, msg); err != nil {
					return err
				}
				load.pace.follow(msg)
				msg.Ack()
			}
			return nil
		})
	}
	meter.Start()
	l.watch.begin(load)
	err := source.send(shared, load)
	meter.Stop()
	return errors.Join(err, source.Close(), workers.Wait())
}

// official is the official subscriber and publisher, on tables of their own.
func (l *inboxLane) official(ctx context.Context, load Load, meter *Meter) error {
	for _, name := range []string{plain.Table(topic), plain.Offsets(topic), plain.Table(outputs)} {
		if _, err := l.db.ExecContext(ctx, "DROP TABLE IF EXISTS "+name); err != nil {
			return err
		}
	}
	publisher, err := plain.Publisher(l.db)
	if err != nil {
		return err
	}
	subscriber, err := plain.Subscriber(l.db, "bench")
	if err != nil {
		return err
	}
	if load.pace == nil {
		if err := publish(ctx, publisher, load, l.env.Payload); err != nil {
			return err
		}
	}
	l.watch.finish = make(chan struct{})
	meter.Start()
	l.watch.begin(load)
	router, err := startRouter(ctx, route{subscriber: subscriber, publisher: publisher, watch: l.watch})
	if err != nil {
		return err
	}
	if load.pace != nil {
		err = publish(ctx, publisher, load, l.env.Payload)
	}
	if err == nil {
		select {
		case <-l.watch.finish:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	meter.Stop()
	if err = errors.Join(err, router.Close()); err != nil || !l.env.Produce {
		return err
	}
	return l.db.QueryRowContext(ctx, `SELECT count(*) FROM `+plain.Table(outputs)).Scan(&l.published)
}

// handleWithEffectPostgres is handleWithEffect in PostgreSQL's words.
func (w *watch) handleWithEffectPostgres(msg *message.Message) ([]*message.Message, error) {
	tx, err := inbox.Tx(msg.Context())
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(msg.Context(), `INSERT INTO effects (event) VALUES ($1)`, msg.UUID); err != nil {
		return nil, err
	}
	return w.handle(msg)
}
