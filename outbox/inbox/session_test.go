package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

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
