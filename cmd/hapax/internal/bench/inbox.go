package bench

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// inboxBrokers measures the inbox on PostgreSQL and MariaDB, where there are
// servers: those of `make servers`, or of HAPAX_TEST_POSTGRES and
// HAPAX_TEST_MARIADB.
func inboxBrokers() (list []Broker) {
	for _, database := range []struct {
		name    string
		dialect sqldb.Dialect
	}{{servers.Postgres, sqldb.Postgres}, {servers.MariaDB, sqldb.MySQL}} {
		server, found := servers.Find(database.name)
		if !found {
			continue
		}
		open := func(run func(*inboxLane, context.Context, Load, *Meter) error) func(context.Context, Env) (Lane, error) {
			return func(ctx context.Context, env Env) (Lane, error) {
				return openInboxLane(ctx, env, database.dialect, server.URL, run)
			}
		}
		variants := []Variant{
			{Name: Raw, Once: true, Effects: true, Open: open((*inboxLane).byHand)},
			{Name: HapaxInbox, Once: true, Effects: true, Open: open((*inboxLane).hapax)},
		}
		if database.dialect == sqldb.Postgres {
			variants = append(variants, Variant{Name: Watermill, Open: open((*inboxLane).official)})
		}
		list = append(list, Broker{
			Name: database.name, Messages: 12_000, Variants: variants,
			Notes: []string{database.name + ": a handler that inserts a row into its own table, fed by a source in the process. raw is a transaction for each message, on 32 connections: mark, row and output. hapax-inbox is the Router with the strategy inbox, where handlers share transactions. watermill is the official watermill-sql subscriber and publisher in the same Router: messages are rows here, read from a table; it neither deduplicates nor writes the handler's row."},
		})
	}
	return list
}

// inboxLane is a database of its own with Hapax's tables and one of effects.
type inboxLane struct {
	env     Env
	dialect sqldb.Dialect
	db      *sql.DB
	drop    func() error
	run     func(*inboxLane, context.Context, Load, *Meter) error
	watch   *watch
	// published is what went elsewhere than into the outbox.
	published int
}

func openInboxLane(ctx context.Context, env Env, dialect sqldb.Dialect, server string, run func(*inboxLane, context.Context, Load, *Meter) error) (Lane, error) {
	name := "hapax_bench_" + strings.ToLower(rand.Text()[:8])
	admin, _, err := sqldb.Open(ctx, server)
	if err != nil {
		return nil, err
	}
	if _, err := admin.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return nil, errors.Join(err, admin.Close())
	}
	drop := func() error {
		_, err := admin.Exec("DROP DATABASE " + name)
		return errors.Join(err, admin.Close())
	}
	l := &inboxLane{env: env, dialect: dialect, run: run, drop: drop}
	l.db, _, err = sqldb.OpenWith(ctx, inDatabase(dialect, server, name), sqldb.Options{
		LockTimeout: 5 * time.Second, Isolation: "read-committed",
	})
	if err != nil {
		return nil, errors.Join(err, drop())
	}
	l.db.SetMaxIdleConns(rawConnections)
	tables, err := schema.New(l.db, dialect, schema.Names{})
	if err == nil {
		_, err = tables.Up(ctx)
	}
	if err == nil {
		_, err = l.db.ExecContext(ctx, `CREATE TABLE effects (event varchar(100) NOT NULL)`)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// inDatabase is the DSN of another database on the same server.
func inDatabase(dialect sqldb.Dialect, server, name string) string {
	if dialect == sqldb.Postgres {
		address, err := url.Parse(server)
		if err != nil {
			return server
		}
		address.Path = "/" + name
		return address.String()
	}
	at := strings.LastIndex(server, "/")
	_, options, _ := strings.Cut(server[at:], "?")
	return server[:at+1] + name + "?" + options
}

// Close implements Lane.
func (l *inboxLane) Close() error { return errors.Join(l.db.Close(), l.drop()) }

// Round implements Lane.
func (l *inboxLane) Round(ctx context.Context, load Load, meter *Meter) (counts Counts, err error) {
	for _, table := range []string{"effects", "hapax_inbox", "hapax_outbox"} {
		if _, err := l.db.ExecContext(ctx, "TRUNCATE TABLE "+table); err != nil {
			return counts, err
		}
	}
	l.watch, l.published = &watch{produce: l.env.Produce}, 0
	if err := l.run(l, ctx, load, meter); err != nil {
		return counts, l.watch.because(err)
	}
	counts.Handled = int(l.watch.handled.Load())
	outputs, effects, err := countRows(ctx, l.db, `SELECT (SELECT count(*) FROM hapax_outbox), (SELECT count(*) FROM effects)`)
	counts.Outputs, counts.Effects = l.published+outputs, effects
	return counts, err
}

// hapax is a Router with the strategy inbox.
func (l *inboxLane) hapax(ctx context.Context, load Load, meter *Meter) (err error) {
	opened, err := inbox.Open(ctx, inbox.Options{
		DB: l.db, Dialect: l.dialect, Table: schema.Names{}.InboxTable(),
		Outbox: outboxPort{outbox.Config{Dialect: l.dialect, Copy: true}}, Config: inbox.Config{Logger: quiet},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	handle := l.watch.handleWithEffect
	if l.dialect == sqldb.Postgres {
		handle = l.watch.handleWithEffectPostgres
	}
	source := newSource(l.env)
	router, err := startRouter(ctx, route{
		subscriber: source, publisher: &sink{}, strategy: opened.Strategy(&sink{}), watch: l.watch, handle: handle,
	})
	if err != nil {
		return err
	}
	meter.Start()
	l.watch.begin(load)
	err = source.send(ctx, load)
	meter.Stop()
	return errors.Join(err, source.Close(), router.Close())
}

// outboxPort is package outbox as the inbox uses it; no relay is running.
type outboxPort struct{ outbox.Config }

// Check implements inbox.Outbox.
func (outboxPort) Check([]dedup.Output) error { return nil }

// Store implements inbox.Outbox.
func (p outboxPort) Store(ctx context.Context, tx *sql.Tx, outputs []dedup.Output) error {
	return p.Config.Store(ctx, tx, outputs)
}

// Stored implements inbox.Outbox.
func (outboxPort) Stored() {}
