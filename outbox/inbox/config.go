package inbox

import (
	"errors"
	"log/slog"
	"time"
)

// Config configures a Group or a Pool.
type Config struct {
	// MaxUnits is the most units that share a commit. Default 256; a Pool has no
	// more than 128.
	MaxUnits int
	// MaxAge is the time after which a group takes no more units, so that those
	// already in it need not wait. Also, in a Group, when the last turn took longer
	// than this, the next one begins with a commit of what came before. Default
	// 10ms; 100ms in a Pool, where round trips and other sessions count in.
	MaxAge time.Duration
	// TurnTimeout is the time after which a handler's turn is taken away and its
	// writes are undone. Default 15s.
	TurnTimeout time.Duration
	// Connections is how many groups run side by side on PostgreSQL and MySQL: while
	// one waits for the disk, others work. Default 4.
	Connections int
	// MaxAlone is how many handlers at most have a transaction of their own,
	// because they are slow: their turns take more than 50ms on average. Default 16.
	MaxAlone int
	// IdleTimeout is the sqldb.Options.IdleInTransaction of the database. MySQL does not
	// say that this was why it has ended a connection. Default 0: not known.
	IdleTimeout time.Duration
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
	if c.Connections <= 0 {
		c.Connections = 4
	}
	if c.MaxAlone <= 0 {
		c.MaxAlone = 16
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
	ErrTurnTimeout = errors.New("handler held the transaction that it shares with others for too long: call inbox.Tx after the slow work, not before")

	// ErrIdle: the database ended a handler's transaction, which stood for too long without
	// a statement. The first time this may be because the process was stopped; when the
	// event comes again it is the handler's fault.
	ErrIdle = errors.New("handler left its transaction without a statement for longer than sql.idle_timeout of hapax.yaml, and the database ended it: call inbox.Tx after the slow work, not before, or raise sql.idle_timeout")

	// ErrUndone: the work was undone because of another unit's error. It did
	// nothing wrong and can be done again.
	ErrUndone = errors.New("undone because another event in the same transaction could not commit; it comes again")

	// ErrRolledBack: the database gave up the whole transaction because of a
	// statement's error (a deadlock, a full disk). Nothing of it happened.
	ErrRolledBack = errors.New("database rolled back the whole transaction")

	// ErrCommitUnknown: COMMIT itself failed. The work may or may not be durable.
	ErrCommitUnknown = errors.New("commit failed, its outcome is unknown")
)
