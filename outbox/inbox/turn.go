package inbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hapax-go/hapax/dedup"
)

// Turn is one handler's part in a Group: the transaction, from its first call of
// Tx until Commit or Release. Strategies make one for each claim.
//
//	idle ──Tx──► queued ──granted──► holding ──Commit or Release──► over
//	  │            │ ctx ends           │ TurnTimeout
//	  │            ▼                    ▼
//	  │           idle                over, writes undone
//	  └──Unused or Release──► over
type Turn struct {
	submit func(...*unit) error
	// commit is what the turn commits, where that is known from the start.
	commit *commit
	event  string // readable ID, for errors
	pace   *pace  // of turns like this one; nil where nobody asks
	// results: the strategy keeps results, and this is the handler's.
	results bool
	result  json.RawMessage

	mu      sync.Mutex
	state   turnState
	unit    *unit
	tx      *sql.Tx
	guard   *guard
	err     error         // why it is over before its time
	granted chan struct{} // closed when it leaves queued

	last    *unit      // what runs for this turn after the group's turns
	handed  chan error // the holder is done: keep (nil) or undo
	settled chan error // the group's outcome
}

type turnState uint8

const (
	turnIdle turnState = iota
	turnQueued
	turnHolding
	turnOver
)

var errOver = errors.New("transaction is over: inbox.Tx belongs to the handler and ends with it")

// NewTurn returns an idle turn of the event's handler. It costs nothing until Tx is
// called.
func (g *Group) NewTurn(eventID string) *Turn { return &Turn{submit: g.submit, event: eventID} }

// Tx returns the turn's transaction; see the function of this name.
func (t *Turn) Tx(ctx context.Context) (*sql.Tx, error) {
	t.mu.Lock()
	if t.state == turnIdle {
		unit := &unit{turn: t}
		t.unit, t.granted = unit, make(chan struct{})
		t.handed, t.settled = make(chan error, 1), make(chan error, 1)
		if err := t.submit(unit); err != nil {
			t.mu.Unlock()
			return nil, fmt.Errorf("join transaction: %w", t.unbegun(err))
		}
		t.state = turnQueued
	}
	granted, unit := t.granted, t.unit
	t.mu.Unlock()
	if granted == nil {
		return nil, errOver
	}
	select {
	case <-granted:
	case <-ctx.Done():
		if unit.withdraw() {
			t.refuse(nil)
			return nil, fmt.Errorf("join transaction: %w", context.Cause(ctx))
		}
		<-granted
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.state == turnHolding:
		return t.tx, nil
	case t.err != nil:
		return nil, fmt.Errorf("join transaction: %w", t.err)
	default:
		return nil, errOver
	}
}

// unbegun is what a handler gets whose transaction did not come about. Like the error
// of a claim or a commit it tells of the database, not of the event, which is never
// dead-lettered because of it.
func (t *Turn) unbegun(err error) error {
	return &dedup.StepError{Step: "begin transaction of", EventID: t.event, Err: err}
}

// Unused ends the turn if the handler never called Tx, and reports whether. The
// claim then commits without it.
func (t *Turn) Unused() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != turnIdle || t.err != nil {
		return false
	}
	t.state = turnOver
	return true
}

// Commit runs step in the handler's own transaction and returns once the group
// has committed. When step fails, its writes and the handler's are undone and its
// error is returned.
func (t *Turn) Commit(ctx context.Context, step func(context.Context, *sql.Tx) error) error {
	t.mu.Lock()
	holding, tx, err := t.state == turnHolding, t.tx, t.err
	t.mu.Unlock()
	if !holding {
		return errors.Join(err, fmt.Errorf("commit: %w", errOver))
	}
	err = step(ctx, tx)
	if t.guard.misused.Load() {
		err = ErrNotYours
	}
	if revoked := t.hand(err); revoked != nil {
		return revoked
	}
	if outcome := <-t.settled; outcome != nil {
		return outcome
	}
	return err
}

// Commit ends a turn with an item of the batch: the item runs in the transaction
// of the turn's handler, together with the items of the other turns of the group,
// and Commit returns once the group has committed.
//
// When an item fails, its error is returned and what its handler wrote is undone.
// So are the other turns that ran beside it, because their writes lie before and
// after its own: they get ErrUndone, and can come again. The group then runs the
// items of the next turns one by one, each with its handler's own writes, so that
// those who come again cannot undo each other once more.
func (b *Batch[T]) Commit(ctx context.Context, turn *Turn, item T) error {
	turn.mu.Lock()
	turn.last = &unit{kind: b.kind, item: item}
	turn.mu.Unlock()
	return turn.Commit(ctx, func(context.Context, *sql.Tx) error { return nil })
}

// Release undoes the handler's writes and ends the turn. It does nothing to one
// that is over.
func (t *Turn) Release() {
	t.mu.Lock()
	state, unit, granted := t.state, t.unit, t.granted
	if state == turnIdle {
		t.state = turnOver
	}
	t.mu.Unlock()
	switch {
	case state == turnHolding:
		_ = t.hand(errOver)
	case state != turnQueued:
	case unit.withdraw():
		t.refuse(errOver)
	default: // a goroutine that the handler left behind called Tx
		<-granted
		_ = t.hand(errOver)
	}
}

// hand gives the transaction back to the writer. The turn may have been taken
// away meanwhile; then it returns why.
func (t *Turn) hand(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != turnHolding {
		if t.err != nil {
			return t.err
		}
		return errOver
	}
	t.state = turnOver
	t.handed <- err
	return nil
}

// refuse ends a queued turn that will not be granted; with a nil error it may be
// queued again.
func (t *Turn) refuse(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state, t.err = turnIdle, err
	if err != nil {
		t.state = turnOver
	}
	close(t.granted)
	t.granted, t.unit = nil, nil
}

func (t *Turn) settle(err error) { t.settled <- err }

// runTurn lets a handler have the transaction, and waits for it.
func (g *Group) runTurn(group *gathering, u *unit) {
	t := u.turn
	began := time.Now()
	err := group.inSavepoint(func(tx *sql.Tx) error {
		t.mu.Lock()
		t.state, t.tx, t.guard = turnHolding, tx, group.session.guard
		t.guard.event = t.event
		close(t.granted)
		t.mu.Unlock()
		timer := time.NewTimer(g.config.TurnTimeout)
		defer timer.Stop()
		select {
		case err := <-t.handed:
			if err == nil && g.careful > 0 && t.last != nil {
				last := t.last
				t.last = nil
				return last.kind.call(tx, []*unit{last})
			}
			return err
		case <-timer.C:
		}
		// Between the timer and the lock the holder may have handed it back.
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.state == turnOver {
			return <-t.handed
		}
		t.state, t.err = turnOver, fmt.Errorf("%w (limit %s)", ErrTurnTimeout, g.config.TurnTimeout)
		return t.err
	})
	g.slow = time.Since(began) > g.config.MaxAge
	switch {
	case err == nil:
		group.turns = append(group.turns, u)
	case t.tx == nil:
		t.refuse(t.unbegun(err)) // it was not even granted
	default:
		t.settle(err)
	}
}
