package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Options are what Open needs.
type Options struct {
	// DB is the database, opened with package sqldb. It outlives the Inbox.
	DB *sql.DB
	// Dialect is what DB speaks.
	Dialect sqldb.Dialect
	// Table is the table of processed events, made by package schema.
	Table sqldb.Table
	// Window is how long a mark lasts at least. Default 168h. Choose it longer
	// than the broker can hold a copy back.
	Window time.Duration
	// Outbox stores outputs. Without one handlers have none.
	Outbox Outbox
	// Config configures the shared transactions.
	Config Config
}

// Inbox is a database in which events take effect once. Make one for a database
// and process with Open, and end it with Close. All methods are safe for
// concurrent use.
type Inbox struct {
	marks  *marks
	outbox Outbox
	runner runner
	group  *Group // of SQLite
}

// runner runs turns and commits: a Group, or a Pool.
type runner interface {
	turn(c *commit, pace *pace) *Turn
	commit(ctx context.Context, turn *Turn, c *commit) error
	Close() error
}

// Open checks that the tables are there and starts an inbox.
func Open(ctx context.Context, options Options) (*Inbox, error) {
	if options.Window <= 0 {
		options.Window = 168 * time.Hour
	}
	marks, err := openMarks(options.DB, options.Dialect, options.Table, options.Window)
	if err != nil {
		return nil, fmt.Errorf("open inbox: %w", err)
	}
	err = marks.lookups.Claim(ctx, 0, []*dedup.Entry{{ID: dedup.ID{1}}})
	if err == nil {
		err = marks.register(ctx)
	}
	if err != nil {
		_ = marks.close()
		if sqldb.IsMissing(err) {
			return nil, fmt.Errorf("open inbox: table %s is missing, or made by another version: run `hapax migrate up`: %w", options.Table.Name, err)
		}
		return nil, fmt.Errorf("open inbox: %w", err)
	}
	i := &Inbox{marks: marks, outbox: options.Outbox}
	if options.Dialect == sqldb.SQLite {
		i.group = NewGroup(options.DB, options.Config)
		i.runner = &groupRunner{i.group, NewBatch(i.group, runCommits(marks, options.Outbox))}
	} else {
		i.runner = newPool(options.DB, marks, options.Outbox, options.Config)
	}
	return i, nil
}

// Strategy returns the strategy for one handler. publisher publishes dead letters.
func (i *Inbox) Strategy(publisher message.Publisher) *Strategy {
	return &Strategy{inbox: i, publisher: publisher, here: map[dedup.ID]dedup.Digest{}}
}

// Maintain removes marks that are older than the window. Call it a few times in a
// quarter of a window; where processes share the table, one of them does it. On
// PostgreSQL and MySQL the user must own the table, or may alter it.
func (i *Inbox) Maintain(ctx context.Context) error {
	if err := i.marks.maintain(ctx, i.group); err != nil {
		return fmt.Errorf("maintain inbox: %w", err)
	}
	return nil
}

// Close commits what is under way and ends the inbox. The DB stays open.
func (i *Inbox) Close() error { return errors.Join(i.runner.Close(), i.marks.close()) }

// errOutputs is wrapped by ErrBadOutput: running the handler again will not help.
var errOutputs = errors.New("the inbox has no outbox: open it with one")

func (i *Inbox) check(outputs []dedup.Output) error {
	switch {
	case len(outputs) == 0:
		return nil
	case i.outbox == nil:
		return fmt.Errorf("%w: %w", dedup.ErrBadOutput, errOutputs)
	}
	return i.outbox.Check(outputs)
}

// groupRunner runs commits in a Group.
type groupRunner struct {
	*Group
	commits *Batch[*commit]
}

func (r *groupRunner) turn(c *commit, _ *pace) *Turn {
	turn := r.NewTurn(c.rows[0].EventID)
	turn.results = true
	return turn
}

func (r *groupRunner) commit(ctx context.Context, turn *Turn, c *commit) error {
	if turn.Unused() {
		return r.commits.Do(ctx, c)
	}
	return r.commits.Commit(ctx, turn, c)
}
