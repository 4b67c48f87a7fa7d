package inbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/handlers"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// What the database refuses only when the transaction ends is the event's own fault: it
// must come to an end, in the dead letters, and must not come again for ever. Those who
// shared the transaction with it are not blamed.
func TestWhatOnlyTheCommitRefusesIsTheHandlersFault(t *testing.T) {
	eachDatabase(t, func(r *rig) {
		bad := map[string]func(context.Context) error{}
		if r.dialect != sqldb.MySQL { // it defers nothing
			r.exec(`CREATE TABLE children (parent int REFERENCES accounts (id) DEFERRABLE INITIALLY DEFERRED)`)
			bad["constraint"] = func(ctx context.Context) error {
				tx, err := inbox.Tx(ctx)
				if err == nil {
					_, err = tx.ExecContext(ctx, `INSERT INTO children VALUES (1000)`)
				}
				return err
			}
		}
		switch r.dialect {
		case sqldb.Postgres:
			bad["result"] = func(ctx context.Context) error { return inbox.SetResult(ctx, "no\x00jsonb") }
		case sqldb.MySQL: // MariaDB's JSON is 32 levels deep
			bad["result"] = func(ctx context.Context) error {
				return inbox.SetResult(ctx, json.RawMessage(strings.Repeat("[", 40)+strings.Repeat("]", 40)))
			}
		}
		p := r.process()
		good := p.handler(r.effect)
		const events = 30
		var all sync.WaitGroup
		for i := range events {
			all.Go(func() {
				for _, err := range good.insist(fmt.Sprint("event-", i)) {
					assert.NotEqual(r.t, handlers.Buried, handlers.Classify(err), "blamed: %v", err)
					var step *dedup.StepError
					assert.True(r.t, errors.As(err, &step) && step.Infrastructure(), "blamed: %v", err)
				}
			})
		}
		for name, spoil := range bad {
			h := p.handler(func(ctx context.Context, _ string) error { return spoil(ctx) })
			all.Go(func() {
				var err error
				for range 50 {
					err = h.deliver(name, "payload")
					var step *dedup.StepError
					if !errors.As(err, &step) || !step.Infrastructure() {
						break
					}
				}
				assert.ErrorIs(r.t, err, dedup.ErrRefused)
				assert.Equal(r.t, handlers.Retried, handlers.Classify(err))
			})
		}
		all.Wait()
		r.exact(events)
	})
}
