package inbox

import (
	"errors"
	"log/slog"
	"time"
)

// Config configures a Group.
type Config struct {
	// MaxUnits is the most units that share a commit. Default 256.
	MaxUnits int
	// MaxAge is the time after which a group takes no more units, so that those
	// already in it need not wait. Also, when the last turn took longer than
	// this, the next one begins with a commit of what came before. Default 10ms.
	MaxAge time.Duration
	// TurnTimeout is the time after which a handler's turn is taken away and its
	// writes are undone. Default 15s.
	TurnTimeout time.Duration
	// Logger reports commits that failed. Default slog.Default().
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.MaxUnits <= 0 {
		c.MaxUnits = 256
	}
	if c.MaxAge <= 0 {
		c.MaxAge = 10 * time.Millisecond
	}
	if c.TurnTimeout <= 0 {
		c.TurnTimeout = 15 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

var (
	// ErrClosed: the group was closed and takes no more units.
	ErrClosed = errors.New("database writer is closed")

	// ErrNotYours: a handler called Commit or Rollback on the transaction it got
	// from Tx, or sent such a statement.
	ErrNotYours = errors.New("a handler must not commit or roll back the transaction it got from inbox.Tx: it commits together with the mark after the handler has returned; return an error to undo it")

	// ErrTurnTimeout: a handler held the transaction for too long.
	ErrTurnTimeout = errors.New("handler held the database's only writer for too long: call inbox.Tx after the slow work, not before")

	// ErrUndone: the work was undone because of another unit's error. It did
	// nothing wrong and can be done again.
	ErrUndone = errors.New("undone because another event in the same transaction could not commit; it comes again")

	// ErrRolledBack: SQLite gave up the whole transaction because of a
	// statement's error (a full disk, a failed read). Nothing of it happened.
	ErrRolledBack = errors.New("database rolled back the whole transaction")

	// ErrCommitUnknown: COMMIT itself failed. The work may or may not be durable.
	ErrCommitUnknown = errors.New("commit failed, its outcome is unknown")
)
