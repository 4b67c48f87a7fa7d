package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/errgroup"

	"github.com/hapax-go/hapax/adapters/kafka"
	kafkaplain "github.com/hapax-go/hapax/adapters/kafka/plain"
	"github.com/hapax-go/hapax/adapters/kafka/raw"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/plain"
	"github.com/hapax-go/hapax/outbox/relay"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// outboxBrokers measures the way from an outbox in PostgreSQL to Kafka, where both
// are there. A message is handled when it is out of the table.
func outboxBrokers() []Broker {
	postgres, found := servers.Find(servers.Postgres)
	server, also := servers.Find(servers.Kafka)
	if !found || !also {
		return nil
	}
	open := func(run func(*outboxLane, context.Context, *outboxRound) error) func(context.Context, Env) (Lane, error) {
		return func(ctx context.Context, env Env) (Lane, error) {
			db, _, err := sqldb.Open(ctx, postgres.URL)
			if err != nil {
				return nil, err
			}
			return &outboxLane{env: env, db: db, brokers: server.Hosts, run: run}, nil
		}
	}
	return []Broker{{
		Name:     "outbox",
		Messages: 40_000,
		Variants: []Variant{
			{Name: Raw, Open: open((*outboxLane).byHand)},
			{Name: Watermill, Fewer: 20, Open: open((*outboxLane).official)},
			{Name: Hapax, Open: open((*outboxLane).relay)},
		},
		Notes: []string{
			fmt.Sprintf("outbox: the rows of a table in PostgreSQL; consume drops them, consume-produce publishes them to Kafka. raw is DELETE … SKIP LOCKED LIMIT %d RETURNING on %d connections and publishes nothing in either case: its outputs are the rows it got. watermill is a Router with the official watermill-sql subscriber and, in consume-produce, the official watermill-kafka publisher, with a twentieth of the messages. hapax is the relay with %d workers, with per-key order and leases.", outboxBatch, outboxWorkers, outboxWorkers),
		},
	}}
}

const (
	outboxBatch   = 500
	outboxWorkers = 4
	outboxFill    = 1000 // rows of a transaction
	outboxSchema  = "hapax_bench"
)

type outboxLane struct {
	env     Env
	db      *sql.DB
	brokers []string
	run     func(*outboxLane, context.Context, *outboxRound) error
}

// Close implements Lane.
func (l *outboxLane) Close() error { return l.db.Close() }

// outboxRound is one round's load on its way.
type outboxRound struct {
	load   Load
	meter  *Meter
	watch  *watch
	kafka  *kafka.Broker
	outbox outbox.Config
	// returned counts what raw got instead of publishing it.
	returned int
}

// Round implements Lane.
func (l *outboxLane) Round(ctx context.Context, load Load, meter *Meter) (counts Counts, err error) {
	if err := raw.Reset(ctx, l.brokers, kafkaPartitions, []string{outputs}); err != nil {
		return counts, err
	}
	r := &outboxRound{load: load, meter: meter, watch: &watch{produce: l.env.Produce, finish: make(chan struct{})}}
	if r.kafka, err = kafka.Open(ctx, kafka.Config{Brokers: l.brokers, Logger: quiet}); err != nil {
		return counts, err
	}
	defer func() { err = errors.Join(err, r.kafka.Close()) }()
	if err := l.create(ctx, r); err != nil {
		return counts, err
	}
	if err := l.run(l, ctx, r); err != nil {
		return counts, r.watch.because(err)
	}
	counts.Handled = int(r.watch.handled.Load())
	if r.returned > 0 {
		if l.env.Produce {
			counts.Outputs = r.returned
		}
		return counts, nil
	}
	values, err := raw.Values(ctx, l.brokers, outputs)
	counts.Outputs = len(values)
	return counts, err
}

// create makes the tables anew.
func (l *outboxLane) create(ctx context.Context, r *outboxRound) error {
	if _, err := l.db.ExecContext(ctx, `DROP SCHEMA IF EXISTS `+outboxSchema+` CASCADE`); err != nil {
		return fmt.Errorf("remove tables of the round before: %w", err)
	}
	names := schema.Names{Schema: outboxSchema}
	tables, err := schema.New(l.db, sqldb.Postgres, names)
	if err != nil {
		return err
	}
	r.outbox = outbox.Config{Dialect: sqldb.Postgres, Table: names.OutboxTable()}
	_, err = tables.Up(ctx)
	return err
}

// fill writes the load: all of it before the clock starts, or what is due.
func (l *outboxLane) fill(ctx context.Context, r *outboxRound, write func([]dedup.Output) error) error {
	total := r.load.Deliveries()
	for i := 0; i < total; {
		if err := r.load.pace.wait(ctx, i); err != nil {
			return err
		}
		var batch []dedup.Output
		for n := min(r.load.pace.ready(total), i+outboxFill); i < n; i++ {
			batch = append(batch, dedup.Output{Topic: outputs, Message: message.NewMessage(r.load.id(i), l.env.Payload)})
		}
		if err := write(batch); err != nil {
			return err
		}
	}
	return nil
}

func (l *outboxLane) store(ctx context.Context, r *outboxRound) func([]dedup.Output) error {
	return func(batch []dedup.Output) error {
		tx, err := l.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() //nolint:errcheck // after Commit it does nothing
		if err := r.outbox.Store(ctx, tx, batch); err != nil {
			return err
		}
		return tx.Commit()
	}
}

// measure fills the table and drains it, one after the other or, paced, at the
// same time. drain returns when everything is out of the table.
func (l *outboxLane) measure(ctx context.Context, r *outboxRound, write func([]dedup.Output) error, drain func(context.Context) error) error {
	if r.load.pace == nil {
		if err := l.fill(ctx, r, write); err != nil {
			return err
		}
	}
	both, ctx := errgroup.WithContext(ctx)
	r.meter.Start()
	r.watch.begin(r.load)
	both.Go(func() error { return drain(ctx) })
	if r.load.pace != nil {
		both.Go(func() error { return l.fill(ctx, r, write) })
	}
	err := both.Wait()
	r.meter.Stop()
	return err
}

// settled counts messages that are out of the table.
func (r *outboxRound) settled(uuids ...string) {
	for _, uuid := range uuids {
		r.load.pace.settled(indexOf(uuid))
	}
	if r.watch.handled.Add(int64(len(uuids))) >= r.watch.expected {
		close(r.watch.finish)
	}
}

// relay measures the relay.
func (l *outboxLane) relay(ctx context.Context, r *outboxRound) error {
	publisher := &relayed{round: r}
	if l.env.Produce {
		publisher.Publisher = r.kafka.Publisher()
	}
	running, err := relay.New(relay.Config{
		DB: l.db, Outbox: r.outbox, Publisher: publisher, Ping: r.kafka.Ping, Batch: outboxBatch, Workers: outboxWorkers, Logger: quiet,
	})
	if err != nil {
		return err
	}
	return l.measure(ctx, r, l.store(ctx, r), func(ctx context.Context) error {
		until, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- running.Run(until) }()
		defer cancel()
		select {
		case <-r.watch.finish:
		case err := <-ended:
			return err
		}
		cancel()
		return <-ended // it settles what is published first
	})
}

// relayed is the relay's publisher; without one inside it drops everything.
type relayed struct {
	message.Publisher
	round *outboxRound
}

// Publish implements message.Publisher.
func (p *relayed) Publish(topic string, messages ...*message.Message) error {
	if p.Publisher != nil {
		if err := p.Publisher.Publish(topic, messages...); err != nil {
			return err
		}
	}
	uuids := make([]string, len(messages))
	for i, msg := range messages {
		uuids[i] = msg.UUID
	}
	p.round.settled(uuids...)
	return nil
}

// byHand measures claiming and deleting in one statement.
func (l *outboxLane) byHand(ctx context.Context, r *outboxRound) error {
	table := sqldb.Postgres.Quote(r.outbox.Table)
	query := fmt.Sprintf(`DELETE FROM %s WHERE id IN (SELECT id FROM %s ORDER BY id LIMIT %d FOR UPDATE SKIP LOCKED) RETURNING id, uuid, metadata, payload`, table, table, outboxBatch)
	claim := func(ctx context.Context) (uuids []string, err error) {
		rows, err := l.db.QueryContext(ctx, query)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			var uuid string
			var metadata, payload []byte
			if err := rows.Scan(&id, &uuid, &metadata, &payload); err != nil {
				return nil, err
			}
			uuids = append(uuids, uuid)
		}
		return uuids, rows.Err()
	}
	err := l.measure(ctx, r, l.store(ctx, r), func(ctx context.Context) error {
		workers, ctx := errgroup.WithContext(ctx)
		for range outboxWorkers {
			workers.Go(func() error {
				for r.watch.handled.Load() < r.watch.expected {
					uuids, err := claim(ctx)
					if err != nil {
						return err
					}
					if len(uuids) > 0 {
						r.settled(uuids...)
					}
				}
				return nil
			})
		}
		return workers.Wait()
	})
	r.returned = int(r.watch.handled.Load())
	return err
}

// official measures Watermill's own subscriber.
func (l *outboxLane) official(ctx context.Context, r *outboxRound) (err error) {
	if _, err := l.db.ExecContext(ctx, `DROP TABLE IF EXISTS `+plain.Table(outputs)+`, `+plain.Offsets(outputs)); err != nil {
		return err
	}
	writer, err := plain.Publisher(l.db)
	if err != nil {
		return err
	}
	subscriber, err := plain.Subscriber(l.db, scope.Service)
	if err != nil {
		return err
	}
	publisher, err := kafkaplain.Publisher(l.brokers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, subscriber.Close(), publisher.Close(), writer.Close()) }()
	// Both ends would create the tables, and one of them fail.
	if err := subscriber.SubscribeInitialize(outputs); err != nil {
		return err
	}
	write := func(batch []dedup.Output) error {
		messages := make([]*message.Message, len(batch))
		for i, output := range batch {
			messages[i] = output.Message
		}
		return writer.Publish(outputs, messages...)
	}
	return l.measure(ctx, r, write, func(ctx context.Context) error {
		router, err := startRouter(ctx, route{subscriber: named{subscriber}, publisher: publisher, watch: r.watch})
		if err != nil {
			return err
		}
		select {
		case <-r.watch.finish:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		return errors.Join(err, router.Close())
	})
}

// named reads the table under the name of the topic that its rows go to.
type named struct{ message.Subscriber }

// Subscribe implements message.Subscriber.
func (n named) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	return n.Subscriber.Subscribe(ctx, outputs)
}
