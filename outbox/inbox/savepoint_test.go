package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// shared makes deliveries that have one transaction, in their order.
func (p *process) shared(deliver ...func()) {
	holder, began, goOn := p.holding()
	var all sync.WaitGroup
	all.Go(func() { holder.insist(fmt.Sprint("holder-", len(deliver))) })
	<-began
	for i, deliver := range deliver {
		all.Go(deliver)
		require.Eventually(p.t, func() bool { return p.inbox.Queued() == i+1 }, 20*time.Second, time.Millisecond)
	}
	go func() {
		for range began { // it may come again
			goOn <- struct{}{}
		}
	}()
	goOn <- struct{}{}
	all.Wait()
	close(began)
}

// careful are a process with one connection, whose turns get savepoints, and what three
// events have left behind.
func (r *rig) careful() *process {
	p := r.process(configured(func(c *inbox.Config) { c.Connections = 1 }))
	fails := p.once(func(context.Context) error { return errRefused })
	p.shared(func() { fails.insist("fails") }, func() { p.handler(r.effect).insist("beside") })
	require.Positive(r.t, p.inbox.Careful(), "turns get savepoints")
	return p
}

// once is a handler that does something after its effect when it runs for the first time.
func (p *process) once(do func(context.Context) error) *handler {
	var done atomic.Bool
	return p.handler(func(ctx context.Context, id string) error {
		err := p.effect(ctx, id)
		if err == nil && done.CompareAndSwap(false, true) {
			return do(ctx)
		}
		return err
	})
}

// A connection that is lost between two handlers' turns, so that the second has no
// savepoint, is nobody's fault: what ran comes again, and so does what did not run.
func TestAConnectionThatIsLostBeforeASavepoint(t *testing.T) {
	r := newRigOn(t, sqldb.Postgres)
	p := r.careful()
	loses := p.once(func(context.Context) error {
		const others = `FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'`
		r.exec(`SELECT pg_terminate_backend(pid) ` + others)
		assert.Eventually(t, func() bool { return r.number(`SELECT count(*) `+others) == 0 }, 20*time.Second, time.Millisecond)
		return nil
	})
	good := p.handler(r.effect)
	p.shared(func() { loses.insist("loses") }, func() { good.insist("waits") }, func() { good.insist("waits too") })
	r.exact(7)
}

// Where a handler has taken its savepoint away, what it wrote cannot be undone alone.
func TestASavepointThatIsGone(t *testing.T) {
	eachServer(t, func(r *rig) {
		p := r.careful()
		releases := p.once(func(ctx context.Context) error {
			tx, err := inbox.Tx(ctx)
			if err == nil {
				_, err = tx.ExecContext(ctx, `RELEASE SAVEPOINT hapax_turn`)
			}
			return errors.Join(err, errRefused)
		})
		good := p.handler(r.effect)
		p.shared(func() { good.insist("before") }, func() { releases.insist("releases") }, func() { good.insist("behind") })
		r.exact(7)
	})
}
