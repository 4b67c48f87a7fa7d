package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// A text of several statements must not end the transaction behind the first one. Those
// who share it lose nothing, and nothing is written outside of it.
func TestAnEndBehindAnotherStatement(t *testing.T) {
	for name, text := range map[string]string{
		"rollback":         `UPDATE accounts SET balance = 1; ROLLBACK`,
		"commit":           `UPDATE accounts SET balance = length('it''s; so'); /* ; */ commit; SELECT 1`,
		"commit and go on": `UPDATE accounts SET balance = 1; COMMIT; BEGIN`,
		"behind a quoted one": `SELECT 'a; b', "id", $x$; commit$x$ FROM accounts; -- ;
COMMIT`,
		// What the server reads otherwise is found out when it is too late for this handler,
		// and not for the others.
		"not seen": `SELECT '\'; ROLLBACK; SELECT ''`,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRigOn(t, sqldb.Postgres)
			p := r.process(configured(func(c *inbox.Config) { c.Connections = 1 }))
			bad := p.handler(func(ctx context.Context, id string) error {
				tx, err := inbox.Tx(ctx)
				if err != nil {
					return err
				}
				_, _ = tx.ExecContext(ctx, text)
				_ = r.effect(ctx, id)
				return nil
			})
			good := p.handler(r.effect)
			const events = 20
			var all sync.WaitGroup
			for i := range events {
				all.Go(func() { good.insist(fmt.Sprint("good-", i)) })
				if i%5 == 0 {
					all.Go(func() {
						var err error
						for range 50 { // undone with another bad one, it comes again
							if err = bad.deliver(fmt.Sprint("bad-", i), "payload"); errors.Is(err, inbox.ErrUndone) || errors.Is(err, inbox.ErrRolledBack) {
								continue
							}
							break
						}
						assert.ErrorIs(t, err, inbox.ErrNotYours)
					})
				}
			}
			all.Wait()
			r.exact(events)
		})
	}
}

// A procedure of MySQL may roll back. Nobody loses an event by that.
func TestAProcedureThatRollsBack(t *testing.T) {
	r := newRigOn(t, sqldb.MySQL)
	r.exec(`CREATE PROCEDURE gives_up() BEGIN ROLLBACK; END`)
	r.exec(`CREATE PROCEDURE works() BEGIN UPDATE accounts SET balance = balance + 1; END`)
	p := r.process(configured(func(c *inbox.Config) { c.Connections = 1 }))
	calling := func(procedure string) *handler {
		return p.handler(func(ctx context.Context, id string) error {
			err := r.effect(ctx, id)
			tx, _ := inbox.Tx(ctx)
			_, called := tx.ExecContext(ctx, `CALL `+procedure)
			return errors.Join(err, called)
		})
	}
	bad, good := calling("gives_up()"), calling("works()")
	const events = 20
	var all sync.WaitGroup
	for i := range events {
		all.Go(func() { good.insist(fmt.Sprint("good-", i)) })
		if i%5 == 0 {
			all.Go(func() {
				var err error
				for range 50 { // undone with another bad one, it comes again
					if err = bad.deliver(fmt.Sprint("bad-", i), "payload"); errors.Is(err, inbox.ErrUndone) || errors.Is(err, inbox.ErrRolledBack) {
						continue
					}
					break
				}
				assert.ErrorIs(t, err, inbox.ErrNotYours)
			})
		}
	}
	all.Wait()
	r.exact(events)
}

// Semicolons in texts that are no end of a statement are the handler's own affair.
func TestSemicolonsThatEndNoStatement(t *testing.T) {
	eachDatabase(t, func(r *rig) {
		texts := []string{`SELECT 'a; commit'`, `SELECT 1 /* ; COMMIT */`, `SELECT 1;`, "SELECT 1; -- ; rollback\n"}
		if r.dialect == sqldb.Postgres {
			texts = append(texts, `DO $$ BEGIN PERFORM 1; END $$`, `DO $x$ BEGIN PERFORM '$$'; END; $x$`, `SAVEPOINT a; ROLLBACK TO a; RELEASE a`)
		}
		h := r.process().handler(func(ctx context.Context, id string) error {
			tx, err := inbox.Tx(ctx)
			if err != nil {
				return err
			}
			for _, text := range texts {
				if _, err := tx.ExecContext(ctx, text); err != nil {
					return fmt.Errorf("%s: %w", text, err)
				}
			}
			return r.effect(ctx, id)
		})
		require.NoError(r.t, h.deliver("a", "payload"))
		r.exact(1)
	})
}

// A handler that pays no heed to the refusal has not done what it set out to do.
func TestARefusedEndFailsTheEvent(t *testing.T) {
	eachDatabase(t, func(r *rig) {
		for _, text := range []string{"COMMIT", "ROLLBACK", "SELECT 1; ROLLBACK", "SELECT 1;\nCOMMIT"} {
			h := r.process().handler(func(ctx context.Context, id string) error {
				err := r.effect(ctx, id)
				tx, _ := inbox.Tx(ctx)
				_, _ = tx.ExecContext(ctx, text)
				return err
			})
			require.ErrorIs(r.t, h.deliver("a", "payload"), inbox.ErrNotYours, text)
		}
		r.exact(0)
	})
}
