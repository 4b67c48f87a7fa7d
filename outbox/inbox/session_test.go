package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// What lasts until the end of a transaction, such as a temporary table, is in the way of
// those who share it. An event that fails only because of that must not fail as often as
// makes a dead letter of it.
func TestWhatLastsUntilTheCommitIsInNobodysWayTwice(t *testing.T) {
	r := newRigOn(t, sqldb.Postgres)
	h := r.process(configured(func(c *inbox.Config) { c.Connections = 1 })).handler(func(ctx context.Context, id string) error {
		tx, err := inbox.Tx(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `CREATE TEMPORARY TABLE work ON COMMIT DROP AS SELECT 1`); err != nil {
			return err
		}
		return r.effect(ctx, id)
	})
	const events, workers, attempts = 120, 40, 5
	queue := make(chan string, events)
	for i := range events {
		queue <- fmt.Sprint("event-", i)
	}
	close(queue)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for id := range queue {
				own := 0
				for _, err := range h.insist(id) {
					var step *dedup.StepError
					if !errors.As(err, &step) {
						own++
					}
				}
				assert.Less(t, own, attempts, "%s would be a dead letter", id)
			}
		})
	}
	all.Wait()
	r.exact(events)
}

// A handler that goes on after a lock that it did not get in time has its effect once, with
// its mark. Where MySQL is told to (innodb_rollback_on_timeout), it has given up the whole
// transaction then, and what the handler writes next would be durable by itself.
func TestALockThatWasNotHadInTime(t *testing.T) {
	eachServer(t, func(r *rig) {
		held, err := r.db.BeginTx(t.Context(), nil)
		if !assert.NoError(r.t, err) {
			return
		}
		_, err = held.ExecContext(t.Context(), `UPDATE accounts SET balance = 1 WHERE id = 1`)
		assert.NoError(r.t, err)
		var release sync.Once
		p := r.process(func(_ *inbox.Options, o *sqldb.Options) { o.LockTimeout = time.Second })
		good := p.handler(r.effect)
		late := p.handler(func(ctx context.Context, id string) error {
			tx, err := inbox.Tx(ctx)
			if err != nil {
				return err
			}
			if r.dialect == sqldb.Postgres {
				_, _ = tx.ExecContext(ctx, `SAVEPOINT before`)
			}
			if _, err = tx.ExecContext(ctx, `UPDATE accounts SET balance = balance + 1 WHERE id = 1`); err != nil && r.dialect == sqldb.Postgres {
				_, _ = tx.ExecContext(ctx, `ROLLBACK TO SAVEPOINT before`)
			}
			release.Do(func() { assert.NoError(r.t, held.Rollback()) })
			return r.effect(ctx, id)
		})
		var all sync.WaitGroup
		all.Go(func() { late.insist("late") })
		for i := range 10 {
			all.Go(func() { good.insist(fmt.Sprint("event-", i)) })
		}
		all.Wait()
		r.exact(11)
	})
}

// What a handler sets for the whole session, such as the schema of its tenant, is in nobody's
// way when its transaction has ended.
func TestWhatLastsBeyondTheCommitIsInNobodysWay(t *testing.T) {
	for dialect, texts := range map[sqldb.Dialect][]string{
		sqldb.Postgres: {
			`SET search_path TO pg_catalog`, `SELECT set_config('search_path', 'pg_catalog', false)`, `SET ROLE pg_monitor`,
			`SELECT 1; SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY`, `DEALLOCATE ALL`,
			`SELECT SET_CONFIG('search_path', 'pg_catalog', FALSE)`, `SELECT set_config('default_transaction_read_only', 'true', false)`,
			`SELECT set_config('a.b', 'c', true), set_config('search_path', 'pg_catalog', false)`,
			`CREATE TEMPORARY TABLE accounts_of_today (id int)`, `PREPARE charge AS SELECT 1`, `DECLARE c CURSOR WITH HOLD FOR SELECT 1`,
			`DO $$ BEGIN SET search_path TO pg_catalog; END $$`, `SELECT 1 AS id INTO TEMP accounts_of_today`,
			`WITH a AS (SELECT 1 AS id) SELECT id INTO LOCAL TEMPORARY TABLE accounts_of_today FROM a`,
			`CREATE TABLE pg_temp.accounts_of_today (id int)`, `CREATE OR REPLACE TEMP VIEW effects AS SELECT 1 AS id`,
		},
		sqldb.MySQL: {
			`USE mysql`, `SET SESSION TRANSACTION READ ONLY`, `SET @@sql_select_limit = 0`, `SET LOCAL sql_select_limit = 0`,
			`SET @limit = CONCAT(1, 2), sql_select_limit = 0`, `CREATE TEMPORARY TABLE accounts_of_today (id int)`,
		},
	} {
		for _, text := range texts {
			t.Run(text, func(t *testing.T) {
				r := newRigOn(t, dialect)
				p := r.process(configured(func(c *inbox.Config) { c.Connections = 1 }))
				p.db.SetMaxOpenConns(2)
				setting := p.handler(nil)
				once, err := dedup.New(dedup.Config{Scope: dedup.Scope{Service: "shop", Handler: "set"}, Strategy: setting.strategy})
				assert.NoError(t, err)
				setting.handle = once.Wrap(func(msg *message.Message) ([]*message.Message, error) {
					tx, err := inbox.Tx(msg.Context())
					if err == nil {
						_, err = tx.ExecContext(msg.Context(), text)
					}
					return nil, err
				})
				good := p.handler(r.effect)
				const events = 10
				for i := range events {
					assert.NoError(t, setting.deliver(fmt.Sprint("setting-", i), "payload"))
					assert.NoError(t, good.deliver(fmt.Sprint("event-", i), "payload"))
				}
				assert.Equal(t, 2*events, r.number(`SELECT count(*) FROM hapax_inbox`))
			})
		}
	}
}

// A lock of the session that a handler could not give back, because a statement of its had
// failed, is not held for longer than its transaction.
func TestALockOfTheSessionEndsWithTheTransaction(t *testing.T) {
	lock := map[sqldb.Dialect]string{sqldb.Postgres: `SELECT pg_advisory_lock(7)`, sqldb.MySQL: `SELECT GET_LOCK(DATABASE(), 5)`}
	isFree := map[sqldb.Dialect]string{
		sqldb.Postgres: `SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
		sqldb.MySQL:    `SELECT IS_FREE_LOCK(DATABASE())`,
	}
	eachServer(t, func(r *rig) {
		p := r.process()
		p.db.SetConnMaxIdleTime(0) // the connection of a service that is busy
		h := p.handler(func(ctx context.Context, _ string) error {
			tx, err := inbox.Tx(ctx)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, lock[r.dialect]); err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, `INSERT INTO accounts VALUES (1, 0)`) // there is one
			return err
		})
		assert.ErrorContains(r.t, h.deliver("a", "payload"), "uplicate")
		assert.Eventually(r.t, func() bool {
			var free bool
			assert.NoError(r.t, r.db.QueryRowContext(t.Context(), isFree[r.dialect]).Scan(&free))
			return free
		}, 20*time.Second, 10*time.Millisecond)
	})
}

// What lasts beyond the commit on SQLite, whose one connection all handlers share.
func TestWhatLastsBeyondTheCommitIsInNobodysWayOnSQLite(t *testing.T) {
	for _, text := range []string{
		`PRAGMA query_only = ON`, `PRAGMA main.locking_mode = EXCLUSIVE`, `SELECT 1; PRAGMA locking_mode(exclusive)`,
		`ATTACH ':memory:' AS other`,
	} {
		t.Run(text, func(t *testing.T) {
			r := newRigOn(t, sqldb.SQLite)
			p := r.process()
			setting := p.handler(func(ctx context.Context, _ string) error {
				tx, err := inbox.Tx(ctx)
				if err == nil {
					_, err = tx.ExecContext(ctx, text)
				}
				return err
			})
			good := p.handler(r.effect)
			for i := range 3 {
				_ = setting.deliver(fmt.Sprint("setting-", i), "payload")
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				_, err := r.db.ExecContext(ctx, `INSERT INTO accounts VALUES (?, 0)`, 10+i)
				cancel()
				assert.NoError(t, err, "somebody else writes to the file")
				assert.NoError(t, good.deliver(fmt.Sprint("event-", i), "payload"))
			}
		})
	}
}

// losing are statements that lose their connection.
var losing = map[sqldb.Dialect]string{sqldb.Postgres: `SELECT pg_terminate_backend(pg_backend_pid())`, sqldb.MySQL: `KILL CONNECTION_ID()`}

// A connection that is lost is not the handler's fault, whatever the handler makes of the
// statement that met it.
func TestALossThatTheHandlerIgnores(t *testing.T) {
	eachServer(t, func(r *rig) {
		h := r.process().handler(func(ctx context.Context, id string) error {
			tx, err := inbox.Tx(ctx)
			if err != nil {
				return err
			}
			_, _ = tx.ExecContext(ctx, losing[r.dialect])
			_ = r.effect(ctx, id)
			return r.effect(ctx, id)
		})
		var step *dedup.StepError
		assert.ErrorAs(r.t, h.deliver("a", "payload"), &step)
		r.exact(0)
	})
}

// A handler that does something else for longer than the database lets a transaction stand
// learns which setting that is, and is not run again for ever. That its process was stopped
// may be the reason only once; that a connection was lost tells nothing of the handler.
func TestATransactionThatStandsForTooLong(t *testing.T) {
	const limit = time.Second
	pause := func(context.Context, *rig) error { time.Sleep(limit + 500*time.Millisecond); return nil }
	lose := func(ctx context.Context, r *rig) error {
		tx, err := inbox.Tx(ctx)
		if err == nil {
			_, _ = tx.ExecContext(ctx, losing[r.dialect])
		}
		return err
	}
	eachServer(t, func(r *rig) {
		for name, run := range map[string]struct {
			between func(context.Context, *rig) error
			goOn    bool
			idle    bool
		}{
			"before a statement":  {pause, true, true},
			"before the commit":   {pause, false, true},
			"a connection's loss": {lose, true, false},
		} {
			p := r.process(func(i *inbox.Options, o *sqldb.Options) { o.IdleInTransaction, i.Config.IdleTimeout = limit, limit })
			h := p.handler(func(ctx context.Context, id string) error {
				err := errors.Join(r.effect(ctx, id), run.between(ctx, r))
				if err == nil && run.goOn {
					err = r.effect(ctx, id)
				}
				return err
			})
			for i := range 3 {
				err := h.deliver(name, "payload")
				assert.Equal(r.t, run.idle, errors.Is(err, inbox.ErrIdle), "%s: %v", name, err)
				var step *dedup.StepError
				assert.ErrorAs(r.t, err, &step, name)
				assert.Equal(r.t, !run.idle || i == 0, step != nil && step.Infrastructure(), "%s, delivery %d: %v", name, i, err)
			}
		}
		r.exact(0)
	})
}

// A disk that is full is not the handler's fault: its event becomes no dead letter.
func TestAFullDiskIsNobodysFault(t *testing.T) {
	r := newRigOn(t, sqldb.SQLite)
	h := r.process().handler(func(ctx context.Context, id string) error {
		tx, err := inbox.Tx(ctx)
		if err != nil {
			return err
		}
		_, _ = tx.ExecContext(ctx, `PRAGMA max_page_count = 1`) // no more than there are
		_, err = tx.ExecContext(ctx, `INSERT INTO effects (id, n) VALUES (hex(zeroblob(100000)), 1)`)
		return err
	})
	err := h.deliver("a", "payload")
	var step *dedup.StepError
	assert.ErrorAs(t, err, &step)
	assert.ErrorContains(t, err, "full")
	r.exact(0)
}
