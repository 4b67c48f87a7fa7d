package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// poolGroup is one shared transaction on its way to its COMMIT.
type poolGroup struct {
	pool    *Pool
	session *poolSession
	end     context.CancelFunc // ends the connection
	alone   bool               // of one unit

	own     *sql.Tx // for the group's own statements
	guard   *guard  // of own
	members []*unit // ran, await COMMIT
	undone  []row   // marks of turns that failed
	left    []*unit // did not run, come again
	saved   bool    // a savepoint stands
	err     error   // the transaction is lost, and why
	doubt   bool    // the connection's state is not known
}

func (g *poolGroup) run(units []*unit) {
	defer func() {
		if g.own != nil {
			g.guard.finish(g.own)
		}
	}()
	if err := g.begin(units); err != nil {
		g.rollback()
		g.left = append(g.left, g.pool.retry(units, err)...)
		return
	}
	began := time.Now()
	for _, u := range units {
		switch refused := u.commit().refusal(); {
		case refused != nil:
			// Its handler has not had the transaction. Marks of its other events,
			// if any, go.
			g.undo(u)
			u.refused(refused)
		case g.err != nil:
			g.left = append(g.left, u)
		case u.turn == nil:
			g.members = append(g.members, u)
		case len(g.members) > 0 && time.Since(began) > g.pool.config.MaxAge:
			g.undo(u) // its mark goes to the next group, with it
			g.left = append(g.left, u)
		default:
			g.turn(u)
		}
	}
	g.commit()
}

// begin opens the transaction and inserts all marks. Nothing has run when it fails.
func (g *poolGroup) begin(units []*unit) error {
	s := g.session
	for _, statement := range g.pool.marks.sql.begin() {
		if err := s.run(statement); err != nil {
			return fmt.Errorf("begin transaction: %w", err)
		}
	}
	own, guard, err := s.begin()
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	g.own, g.guard = own, guard
	var rows []row
	for _, u := range units {
		rows = append(rows, u.commit().rows...)
	}
	if err := g.pool.marks.sql.insert(s.life, own, rows); err != nil {
		return fmt.Errorf("mark: %w", err)
	}
	return nil
}

const (
	setTurn  = "SAVEPOINT hapax_turn"
	undoTurn = "ROLLBACK TO SAVEPOINT hapax_turn"
	endTurn  = "RELEASE SAVEPOINT hapax_turn"
)

// turn lets a handler have the transaction, and waits for it.
func (g *poolGroup) turn(u *unit) {
	careful := !g.alone && g.pool.careful.Load() > 0
	if careful {
		g.pool.careful.Add(-1)
		if g.err = g.savepoint(); g.err != nil {
			g.left = append(g.left, u)
			return
		}
	}
	g.session.written, g.session.contended, g.session.called = false, false, false
	began := time.Now()
	err := g.lend(u)
	if g.session.called && g.rolledBack(u) {
		g.session.lost, err = true, ErrNotYours
	}
	if g.session.contended {
		g.pool.contend()
	}
	if g.session.idle {
		g.pool.idle(u)
	}
	u.turn.pace.note(time.Since(began), g.pool.crowded())
	if err == nil && g.session.aborted() {
		err = errAborted
	}
	if err != nil && !g.alone && !g.session.lost && !g.session.contended {
		g.pool.blame(u)
	}
	switch {
	case err == nil:
		g.members = append(g.members, u)
		return
	case u.turn.tx == nil: // it was not even granted
		g.undo(u)
		u.turn.refuse(u.turn.unbegun(err))
		return
	case g.session.lost || g.doubt:
		g.err = fmt.Errorf("%w: %v", ErrRolledBack, err)
	case !g.session.written: // there is nothing to undo
	case careful:
		if undo := g.session.run(undoTurn); undo != nil {
			g.err = fmt.Errorf("%s: %w", undoTurn, undo)
		}
	default:
		g.err = ErrUndone
		if !g.alone {
			g.pool.careful.Store(16 * int64(g.pool.config.MaxUnits))
		}
	}
	g.undo(u)
	u.turn.settle(err)
}

// rolledBack reports whether a procedure has undone the transaction. MySQL's driver does
// not tell whether one stands; but then the unit's mark is gone.
func (g *poolGroup) rolledBack(u *unit) bool {
	if g.pool.marks.dialect != sqldb.MySQL || g.session.lost || g.doubt {
		return false
	}
	mark := dedup.Entry{ID: u.commit().rows[0].ID, Verdict: dedup.Fresh}
	err := g.pool.marks.sql.lookup(g.session.life, g.own, []*dedup.Entry{&mark})
	return err == nil && mark.Verdict == dedup.Fresh
}

// errAborted: a statement of the handler failed and it returned no error.
var errAborted = errors.New("a statement failed and the handler went on: PostgreSQL has undone the transaction: return the error, or put the statement into a savepoint of your own")

// savepoint begins one for a turn, and ends that of the turn before. On PostgreSQL
// both go to the server in one message.
func (g *poolGroup) savepoint() error {
	statement := setTurn
	if g.saved && g.pool.marks.dialect == sqldb.Postgres {
		statement = endTurn + "; " + setTurn
	}
	g.saved = true // MySQL replaces one of the same name
	if err := g.session.run(statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// lend gives the transaction to a turn until it is handed back or taken away.
func (g *poolGroup) lend(u *unit) error {
	t := u.turn
	tx, guard, err := g.session.begin()
	if err != nil {
		return err
	}
	guard.event, guard.idled = t.event, g.pool.idled(u)
	t.mu.Lock()
	t.state, t.tx, t.guard = turnHolding, tx, guard
	close(t.granted)
	t.mu.Unlock()
	err = g.wait(t)
	guard.finish(tx)
	if guard.misused.Load() {
		return ErrNotYours
	}
	return err
}

// wait waits for the holder. One with a transaction of its own may take its time:
// the end of its context, and the server, see to it.
func (g *poolGroup) wait(t *Turn) error {
	if g.session.alone {
		return <-t.handed
	}
	timer := time.NewTimer(g.pool.config.TurnTimeout)
	defer timer.Stop()
	select {
	case err := <-t.handed:
		return err
	case <-timer.C:
	}
	// Between the timer and the lock the holder may have handed it back.
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state == turnOver {
		return <-t.handed
	}
	t.state, t.err = turnOver, fmt.Errorf("%w (limit %s)", ErrTurnTimeout, g.pool.config.TurnTimeout)
	g.end() // a statement may still be running
	if interrupt := g.session.interrupt; interrupt != nil {
		interrupt()
	}
	g.doubt = true
	return t.err
}

// undo notes that a unit's marks must not be committed.
func (g *poolGroup) undo(u *unit) {
	for _, r := range u.commit().rows {
		if r.Verdict == dedup.Fresh {
			g.undone = append(g.undone, r)
		}
	}
}

// commit ends the group and tells its members. Nobody is told before COMMIT has
// returned that an event took effect.
func (g *poolGroup) commit() {
	err := g.err
	if err == nil && len(g.members) > 0 {
		err = g.seal()
		if err != nil && g.alone && g.session.idle {
			err = g.idle(g.members[0], err)
		}
	}
	if err != nil || len(g.members) == 0 {
		g.rollback()
	}
	if err != nil && len(g.members) > 0 {
		g.pool.config.Logger.Warn("group of events was not committed", "events", len(g.members), "error", err)
	}
	for _, u := range g.members {
		if err != nil && u.turn == nil && !errors.Is(err, ErrCommitUnknown) && !g.alone {
			g.left = append(g.left, u) // it has no handler that would have to run again
			u.apart = true
			continue
		}
		u.finish(err)
	}
}

// idle is the error of a commit that found the transaction gone, because the handler did
// something else for too long after its last statement.
func (g *poolGroup) idle(u *unit, err error) error {
	g.pool.idle(u)
	if errors.Is(err, ErrIdle) {
		return err
	}
	return g.session.guard.idle(err)
}

// seal writes what is left to write and commits. Its error is every member's, so what
// may be the fault of one is in its text only: an ErrBadOutput that could be unwrapped
// would dead-letter them all. The one comes again, alone, and gets its own.
func (g *poolGroup) seal() error {
	s := g.session
	commits := make([]*commit, len(g.members))
	for i, u := range g.members {
		commits[i] = u.commit()
	}
	if len(g.undone) > 0 {
		if err := g.pool.marks.sql.remove(s.life, g.own, g.undone); err != nil {
			return fmt.Errorf("%w: take marks out again: %v", ErrUndone, err)
		}
	}
	if err := store(s.life, g.own, g.pool.marks, g.pool.outbox, commits); err != nil {
		if g.alone {
			return err
		}
		g.pool.doubt() // it may be the fault of one
		return fmt.Errorf("%w: %v", ErrUndone, err)
	}
	if s.aborted() {
		return ErrRolledBack // COMMIT would answer with a rollback, and no error
	}
	err := s.run("COMMIT")
	switch {
	case err == nil:
		return nil
	case sqldb.IsLost(err):
		g.doubt = true
		return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
	case g.alone:
		return own(err)
	default: // a deferred constraint, a serialization failure
		g.pool.doubt()
		return fmt.Errorf("%w: %v", ErrUndone, err)
	}
}

func (g *poolGroup) rollback() {
	if g.session.lost || g.doubt {
		g.doubt = true
		return
	}
	if err := g.session.run("ROLLBACK"); err != nil {
		g.doubt = true
	}
}

// commit is what the unit commits.
func (u *unit) commit() *commit {
	if u.turn != nil {
		return u.turn.commit
	}
	return u.item.(*commit)
}

// refused ends a unit whose event another transaction has marked.
func (u *unit) refused(err error) {
	if u.turn != nil {
		u.turn.refuse(err)
		return
	}
	u.done(err)
}

// byID sorts rows, so that two transactions with the same events wait for each
// other in one direction only.
func byID(rows []row) {
	slices.SortFunc(rows, func(a, b row) int { return slices.Compare(a.ID[:], b.ID[:]) })
}
