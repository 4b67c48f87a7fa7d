package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

// rig is a database with Hapax's tables and a table of effects.
type rig struct {
	t       testing.TB
	dialect sqldb.Dialect
	dsn     string
	db      *sql.DB
}

// eachDatabase runs a test on every dialect.
func eachDatabase(t *testing.T, test func(*rig)) {
	t.Helper()
	sqldbtest.Each(t, func(t *testing.T, dialect sqldb.Dialect, dsn string) { test(newRig(t, dialect, dsn)) })
}

// eachServer runs a test on PostgreSQL and MariaDB, which have several writers.
func eachServer(t *testing.T, test func(*rig)) {
	t.Helper()
	for _, dialect := range []sqldb.Dialect{sqldb.Postgres, sqldb.MySQL} {
		t.Run(string(dialect), func(t *testing.T) { test(newRig(t, dialect, sqldbtest.New(t, dialect))) })
	}
}

func newRig(t testing.TB, dialect sqldb.Dialect, dsn string) *rig {
	r := &rig{t: t, dialect: dialect, dsn: dsn, db: sqldbtest.Open(t, dsn, sqldb.Options{})}
	tables, err := schema.New(r.db, dialect, schema.Names{})
	require.NoError(t, err)
	_, err = tables.Up(t.Context())
	require.NoError(t, err)
	r.exec(`CREATE TABLE effects (id varchar(200) NOT NULL, n int NOT NULL)`)
	r.exec(`CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL)`)
	r.exec(`INSERT INTO accounts VALUES (1, 0), (2, 0)`)
	return r
}

func (r *rig) exec(query string, args ...any) {
	r.t.Helper()
	_, err := r.db.ExecContext(r.t.Context(), r.dialect.Rebind(query), args...)
	require.NoError(r.t, err)
}

func (r *rig) number(query string, args ...any) (n int) {
	r.t.Helper()
	require.NoError(r.t, r.db.QueryRowContext(r.t.Context(), r.dialect.Rebind(query), args...).Scan(&n))
	return n
}

func (r *rig) texts(query string, args ...any) (list []string) {
	r.t.Helper()
	rows, err := r.db.QueryContext(r.t.Context(), r.dialect.Rebind(query), args...)
	require.NoError(r.t, err)
	defer rows.Close()
	for rows.Next() {
		var text string
		require.NoError(r.t, rows.Scan(&text))
		list = append(list, text)
	}
	require.NoError(r.t, rows.Err())
	return list
}

// exact checks that so many events took effect, each once: effect, mark, output.
func (r *rig) exact(events int) {
	r.t.Helper()
	require.Equal(r.t, events, r.number(`SELECT count(*) FROM effects`), "effects")
	require.Equal(r.t, events, r.number(`SELECT count(DISTINCT id) FROM effects`), "events with an effect")
	require.Equal(r.t, events, r.number(`SELECT count(*) FROM hapax_inbox`), "marks")
	require.Equal(r.t, events, r.number(`SELECT count(*) FROM hapax_outbox`), "outputs")
}

// process is one process's part: connections and an inbox of its own.
type process struct {
	*rig
	db     *sql.DB
	inbox  *inbox.Inbox
	config inbox.Config
}

type option func(*inbox.Options, *sqldb.Options)

func isolation(level string) option {
	return func(_ *inbox.Options, o *sqldb.Options) { o.Isolation = level }
}

func configured(change func(*inbox.Config)) option {
	return func(o *inbox.Options, _ *sqldb.Options) { change(&o.Config) }
}

func lasting(window time.Duration) option {
	return func(o *inbox.Options, _ *sqldb.Options) { o.Window = window }
}

func (r *rig) process(options ...option) *process {
	r.t.Helper()
	database := sqldb.Options{LockTimeout: 5 * time.Second, IdleInTransaction: 30 * time.Second, Isolation: "read-committed"}
	o := inbox.Options{Dialect: r.dialect, Table: schema.Names{}.InboxTable(), Config: inbox.Config{Logger: slog.New(slog.DiscardHandler)}}
	o.Outbox = storing{outbox.Config{Dialect: r.dialect}}
	for _, change := range options {
		change(&o, &database)
	}
	db, _, err := sqldb.OpenWith(r.t.Context(), r.dsn, database)
	require.NoError(r.t, err)
	o.DB = db
	opened, err := inbox.Open(r.t.Context(), o)
	require.NoError(r.t, err)
	r.t.Cleanup(func() {
		require.NoError(r.t, opened.Close())
		require.NoError(r.t, db.Close())
	})
	return &process{rig: r, db: db, inbox: opened, config: o.Config}
}

type storing struct{ outbox.Config }

func (storing) Check([]dedup.Output) error { return nil }
func (s storing) Store(ctx context.Context, tx *sql.Tx, outputs []dedup.Output) error {
	return s.Config.Store(ctx, tx, outputs)
}
func (storing) Stored() {}

// letters collects what is published outside of the inbox.
type letters struct {
	mu   sync.Mutex
	list []*message.Message
}

func (l *letters) Publish(_ string, messages ...*message.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, messages...)
	return nil
}
func (l *letters) Close() error { return nil }

// handler is a function under the processing order, in a process.
type handler struct {
	process  *process
	strategy *inbox.Strategy
	handle   message.HandlerFunc
	observe  func(dedup.Outcome)
}

func (p *process) handler(fn func(ctx context.Context, id string) error) *handler {
	p.t.Helper()
	h := &handler{process: p, strategy: p.inbox.Strategy(&letters{})}
	once, err := dedup.New(dedup.Config{
		Scope: dedup.Scope{Service: "shop", Handler: "charge"}, Strategy: h.strategy,
		InFlightWait: 20 * time.Second, Observer: h,
	})
	require.NoError(p.t, err)
	h.handle = once.Wrap(func(msg *message.Message) ([]*message.Message, error) {
		if err := fn(msg.Context(), msg.Metadata.Get(dedup.MetaEventID)); err != nil {
			return nil, err
		}
		output := message.NewMessage("", []byte("shipped"))
		output.Metadata.Set(dedup.MetaTopic, "shipments")
		return []*message.Message{output}, nil
	})
	return h
}

func (h *handler) Observe(_ *dedup.Event, outcome dedup.Outcome, _ error) {
	if h.observe != nil {
		h.observe(outcome)
	}
}

// deliver hands a copy of an event to the handler, once; nil: acknowledged.
func (h *handler) deliver(id, payload string) error {
	msg := message.NewMessage(id, []byte(payload))
	msg.Metadata.Set(dedup.MetaEventID, id)
	msg.SetContext(h.process.t.Context())
	_, err := h.handle(msg)
	return err
}

// insist delivers again and again, as a broker does, and returns the errors.
func (h *handler) insist(id string) (errs []error) {
	for range 200 {
		err := h.deliver(id, "payload")
		if err == nil {
			return errs
		}
		errs = append(errs, err)
	}
	panic(errors.Join(errs...))
}

// effect writes one row for the event in the handler's transaction.
func (r *rig) effect(ctx context.Context, id string) error {
	tx, err := inbox.Tx(ctx)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, r.dialect.Rebind(`INSERT INTO effects (id, n) VALUES (?, 1)`), id)
	return err
}

func newRigOn(t testing.TB, dialect sqldb.Dialect) *rig {
	t.Helper()
	return newRig(t, dialect, sqldbtest.New(t, dialect))
}
