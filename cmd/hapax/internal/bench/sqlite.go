package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqlite"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/inbox"
)

// sqliteBroker measures the embedded broker. Every round has a file of its own,
// filled before the clock starts.
func sqliteBroker() Broker {
	return Broker{
		Name:     sqlite.Name,
		Messages: 15_000,
		Variants: []Variant{
			{Name: Raw, Open: openSQLiteRaw},
			{Name: Hapax, Open: sqliteVariant(sqliteLane{strategy: dedup.StrategyNone})},
			{Name: HapaxDedup, Once: true, Open: sqliteVariant(sqliteLane{strategy: dedup.StrategyInbox})},
			{Name: HapaxInbox, Once: true, Effects: true, Open: sqliteVariant(sqliteLane{strategy: dedup.StrategyInbox, effect: true})},
		},
		Notes: []string{
			"sqlite: Watermill has no official adapter for SQLite to compare with. raw is a loop by hand over a table as queue: claim 200, insert the outputs, delete, one transaction a batch, no deduplication. hapax is the adapter in a Router with deduplication off; hapax-dedup adds the mark to the transaction, hapax-inbox also a row that the handler writes. Every commit waits for the disk (synchronous=FULL).",
			"sqlite: paced rounds publish while they consume, through the same writer, so their rate is half of what publishing and consuming one after the other reached.",
		},
	}
}

// sqliteLane runs the adapter in a Router, both new in each round.
type sqliteLane struct {
	env      Env
	strategy string
	effect   bool
}

func sqliteVariant(lane sqliteLane) func(context.Context, Env) (Lane, error) {
	return func(_ context.Context, env Env) (Lane, error) {
		lane := lane
		lane.env = env
		return &lane, nil
	}
}

// Close implements Lane.
func (l *sqliteLane) Close() error { return nil }

// Round implements Lane.
func (l *sqliteLane) Round(ctx context.Context, load Load, meter *Meter) (counts Counts, err error) {
	defer os.RemoveAll(l.env.Folder)
	if err := os.Mkdir(l.env.Folder, 0o755); err != nil {
		return counts, fmt.Errorf("create folder for a round: %w", err)
	}
	broker, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(l.env.Folder, "round.db"), Logger: quiet})
	if err != nil {
		return counts, err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	if _, err := broker.DB().ExecContext(ctx, `CREATE TABLE effects (event TEXT NOT NULL) STRICT`); err != nil {
		return counts, fmt.Errorf("create table of effects: %w", err)
	}
	w := &watch{produce: l.env.Produce}
	if load.pace == nil {
		if err := publish(ctx, broker.Publisher(), load, l.env.Payload); err != nil {
			return counts, err
		}
	}
	if err := l.consume(ctx, broker, w, load, meter); err != nil {
		return counts, w.because(err)
	}
	counts.Handled = int(w.handled.Load())
	counts.Outputs, counts.Effects, err = countRows(ctx, broker.DB(),
		`SELECT (SELECT count(*) FROM hapax_log WHERE topic = '`+outputs+`'), (SELECT count(*) FROM effects)`)
	return counts, err
}

// consume is the part that is measured: from the start of the Router until it has
// stopped, which is after the last acknowledgement was written.
func (l *sqliteLane) consume(ctx context.Context, broker *sqlite.Broker, w *watch, load Load, meter *Meter) error {
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: topic, Window: l.env.InFlight, Ordering: adapters.OrderByKey})
	if err != nil {
		return err
	}
	strategy := dedup.Strategy(dedup.Plain{Publisher: broker.Publisher()})
	if l.strategy != dedup.StrategyNone {
		strategy, err = broker.Strategy(l.strategy, adapters.StrategyOptions{Scope: scope, Group: topic, Window: time.Hour})
		if err != nil {
			return fmt.Errorf("open strategy: %w", err)
		}
	}
	handle := w.handle
	if l.effect {
		handle = w.handleWithEffect
	}
	w.finish = make(chan struct{})
	meter.Start()
	w.begin(load)
	router, err := startRouter(ctx, route{
		subscriber: subscriber, publisher: broker.Publisher(), strategy: strategy, watch: w, handle: handle,
	})
	if err != nil {
		return err
	}
	if load.pace != nil {
		err = publish(ctx, broker.Publisher(), load, l.env.Payload)
	}
	if err == nil {
		select {
		case <-w.finish:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	err = errors.Join(err, router.Close())
	meter.Stop()
	return err
}

// handleWithEffect also writes a row, in the transaction of the mark.
func (w *watch) handleWithEffect(msg *message.Message) ([]*message.Message, error) {
	tx, err := inbox.Tx(msg.Context())
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(msg.Context(), `INSERT INTO effects (event) VALUES (?)`, msg.UUID); err != nil {
		return nil, err
	}
	return w.handle(msg)
}

// publish sends a load to the topic: all of it at once, or what is due by now.
func publish(ctx context.Context, publisher message.Publisher, load Load, payload []byte) error {
	for sent, total := 0, load.Deliveries(); sent < total; {
		if err := load.pace.wait(ctx, sent); err != nil {
			return err
		}
		batch := make([]*message.Message, max(1, min(load.pace.ready(total)-sent, sqliteBatch)))
		for i := range batch {
			batch[i] = message.NewMessage(load.id(sent+i), payload)
		}
		if err := publisher.Publish(topic, batch...); err != nil {
			return err
		}
		sent += len(batch)
	}
	return nil
}

// countRows runs a query of two numbers.
func countRows(ctx context.Context, db *sql.DB, query string) (outputs, effects int, err error) {
	if err := db.QueryRowContext(ctx, query).Scan(&outputs, &effects); err != nil {
		return 0, 0, fmt.Errorf("count rows: %w", err)
	}
	return outputs, effects, nil
}
