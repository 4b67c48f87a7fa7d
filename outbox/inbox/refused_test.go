package inbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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

// An output that the database does not take is the event's fault as well. What is within
// the limit it takes, though quoting makes it longer than that.
func TestOutputsThatTheDatabaseDoesNotTakeAreTheHandlersFault(t *testing.T) {
	r := newRigOn(t, sqldb.MySQL)
	limit := r.number(`SELECT @@max_allowed_packet`)
	require.LessOrEqual(t, limit, 64<<20, "lower the server's max_allowed_packet: outputs as large as that take too much memory")
	p := r.process()
	good := p.handler(r.effect)
	large := func(payload int, fill byte, key int) *handler {
		return p.emitting(func() *message.Message {
			output := message.NewMessage("", bytes.Repeat([]byte{fill}, payload))
			output.Metadata.Set(dedup.MetaKey, strings.Repeat("k", key))
			return output
		})
	}
	const events = 20
	var all sync.WaitGroup
	for i := range events {
		all.Go(func() { good.insist(fmt.Sprint("event-", i)) })
	}
	all.Go(func() { large(limit*3/4, '\'', 1).insist("quotes") })
	for name, h := range map[string]*handler{"payload": large(limit+1, 'x', 1), "key": large(1, 'x', 1<<16)} {
		all.Go(func() {
			var err error
			for range 50 {
				err = h.deliver(name, "payload")
				var step *dedup.StepError
				if !errors.As(err, &step) || !step.Infrastructure() {
					break
				}
			}
			assert.ErrorIs(t, err, dedup.ErrRefused, name)
			assert.Equal(t, handlers.Retried, handlers.Classify(err), name)
		})
	}
	all.Wait()
	require.Equal(t, events+1, r.number(`SELECT count(*) FROM hapax_outbox`))
	require.Equal(t, events+1, r.number(`SELECT count(*) FROM hapax_inbox`))
}

// emitting is a handler that only has an output.
func (p *process) emitting(output func() *message.Message) *handler {
	p.t.Helper()
	h := &handler{process: p, strategy: p.inbox.Strategy(&letters{})}
	once, err := dedup.New(dedup.Config{Scope: dedup.Scope{Service: "shop", Handler: "emit"}, Strategy: h.strategy})
	require.NoError(p.t, err)
	h.handle = once.Wrap(func(*message.Message) ([]*message.Message, error) {
		msg := output()
		msg.Metadata.Set(dedup.MetaTopic, "shipments")
		return []*message.Message{msg}, nil
	})
	return h
}
