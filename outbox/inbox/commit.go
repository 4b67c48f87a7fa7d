package inbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// commit is what one claim makes durable beside its handler's own writes.
type commit struct {
	rows    []row
	outputs []dedup.Output
	result  json.RawMessage
}

// Refusal is why an event could not be marked; nil when it was.
func Refusal(entry *dedup.Entry) error {
	switch entry.Verdict {
	case dedup.Fresh:
		return nil
	case dedup.Duplicate:
		return dedup.ErrLostRace
	case dedup.InFlight:
		return dedup.ErrLeaseLost // under another claim's lease
	default:
		return dedup.ErrConflict // it comes again, and is quarantined before it runs
	}
}

// refusal is why a claim cannot commit: the first event that could not be marked.
func (c *commit) refusal() error {
	for _, r := range c.rows {
		if err := Refusal(r.Entry); err != nil {
			return err
		}
	}
	return nil
}

// store writes what the commits have beside their marks. Killed inside, nothing
// of it happened: the transaction has not committed.
func store(ctx context.Context, tx *sql.Tx, marks *marks, outbox Outbox, commits []*commit) error {
	var outputs []dedup.Output
	for _, c := range commits {
		outputs = append(outputs, c.outputs...)
		if c.result != nil {
			if err := marks.sql.result(ctx, tx, c.rows, c.result); err != nil {
				return fmt.Errorf("store result: %w", own(err))
			}
		}
	}
	if len(outputs) > 0 {
		if err := failpoint.Hit(failpoint.BeforePublish); err != nil {
			return err
		}
		if err := outbox.Store(ctx, tx, outputs); err != nil {
			return fmt.Errorf("store %d outputs: %w", len(outputs), own(err))
		}
		if err := failpoint.Hit(failpoint.AfterPublish); err != nil {
			return err
		}
	}
	return failpoint.Hit(failpoint.BeforeMark) // all is written, nothing committed
}

// errSingly fails a batch in which one unit has lost; the group then runs each
// unit by itself, to see which.
var errSingly = errors.New("a unit of the batch failed")

// own is the error of what a single handler has written. What the database refuses of it
// is the handler's fault, and would be refused again whenever it came: by a deferred
// constraint, because a result is no JSON that the column takes, or because an output is
// larger than MySQL's max_allowed_packet, or its key than the column.
func own(err error) error {
	if sqldb.IsRefused(err) {
		return fmt.Errorf("%w: %w", dedup.ErrRefused, err)
	}
	return err
}

// runCommits is the batch of a Group: it marks and stores for many claims.
func runCommits(marks *marks, outbox Outbox) func(context.Context, *sql.Tx, []*commit) error {
	return func(ctx context.Context, tx *sql.Tx, commits []*commit) error {
		for _, c := range commits {
			if err := marks.sql.insert(ctx, tx, c.rows); err != nil {
				return fmt.Errorf("mark: %w", err)
			}
			if err := c.refusal(); err != nil {
				if len(commits) > 1 {
					return errSingly
				}
				return err
			}
		}
		return store(ctx, tx, marks, outbox, commits)
	}
}
