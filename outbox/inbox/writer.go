package inbox

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// serve runs one group: BEGIN, units as long as there are some, COMMIT. An error
// means that the connection must be replaced.
func (g *Group) serve(s *session) error {
	shared, err := g.begin(s)
	if err != nil {
		g.reject(fmt.Errorf("begin transaction: %w", err))
		return err
	}
	group := &gathering{session: s, began: time.Now()}
	for group.err == nil && !s.altered && len(group.members) < g.config.MaxUnits {
		units := g.take(g.config.MaxUnits - len(group.members))
		if len(units) == 0 || !g.runAll(group, units) {
			break
		}
		if time.Since(group.began) > g.config.MaxAge {
			break
		}
	}
	if err := g.commit(group); err != nil {
		return err
	}
	if s.altered {
		return errAltered
	}
	if shared {
		// Others write to this file. They look for the lock every moment, and
		// would find it taken for as long as this queue is never empty.
		time.Sleep(time.Millisecond)
	}
	return nil
}

// gathering is one group on its way to its COMMIT.
type gathering struct {
	session *session
	began   time.Time
	members []*unit // ran, await COMMIT
	turns   []*unit // ran, await conclude
	err     error   // the transaction is lost
}

// begin takes the write lock. Other processes hold it for milliseconds, or, with
// a slow handler, for longer: that is waited for without an end, since giving up
// would only make the callers ask again. SQLite's own waiting would sleep up to
// 100ms at a time, and lose every race against a busy process meanwhile. It
// reports whether another connection has written since the last time.
func (g *Group) begin(s *session) (shared bool, err error) {
	asked := time.Now()
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 2*time.Millisecond) {
		err := s.run("BEGIN IMMEDIATE")
		if err == nil {
			break
		}
		if !sqldb.IsBusy(err) {
			return false, err
		}
		if g.closing() && time.Since(asked) > 5*time.Second {
			return false, err
		}
		time.Sleep(pause/2 + rand.N(pause))
	}
	version, err := s.integer("PRAGMA data_version")
	if err != nil {
		_ = s.run("ROLLBACK")
		return false, err
	}
	shared = version != g.last && g.last != 0
	g.last = version
	return shared, nil
}

func (g *Group) closing() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// commit ends the group and tells its members.
func (g *Group) commit(group *gathering) error {
	members := group.members
	group.members = nil
	err := group.err
	if err == nil {
		if err = group.session.run("COMMIT"); err != nil {
			if len(members) == 1 {
				err = own(err)
			}
			err = fmt.Errorf("%w: %w", ErrCommitUnknown, err)
			// It may be the fault of one (a deferred constraint). The next turns
			// commit one by one, so that it fails alone when it comes again.
			g.single = g.config.MaxUnits
		}
	}
	if err != nil {
		_ = group.session.run("ROLLBACK")
		g.config.Logger.Warn("group of units was not committed", "units", len(members), "error", err)
	}
	for _, u := range members {
		u.finish(err)
	}
	return err
}

// runAll runs units: plain ones first, those of a kind together, then the turns,
// which take longest. It reports false when the group should end now.
func (g *Group) runAll(group *gathering, units []*unit) bool {
	if g.owed {
		// It was put back behind plain units once, and there may always be some.
		if i := slices.IndexFunc(units, func(u *unit) bool { return u.turn != nil }); i >= 0 {
			owed, others := units[i:i+1:i+1], slices.Concat(units[:i], units[i+1:])
			if !g.runTurns(group, owed) {
				again := g.owed // it did not begin
				g.putBack(others)
				g.owed = again // else plain units come next
				return false
			}
			units = others
		}
	}
	var plain [][]*unit
	places := map[*kind]int{}
	var turns []*unit
	for _, u := range units {
		if u.turn != nil {
			turns = append(turns, u)
			continue
		}
		if !u.claim() {
			continue
		}
		at, known := places[u.kind]
		if !known || u.kind.alone {
			at = len(plain)
			places[u.kind] = at
			plain = append(plain, nil)
		}
		plain[at] = append(plain[at], u)
	}
	for _, units := range plain {
		g.runPlain(group, units[0].kind, units)
	}
	return g.runTurns(group, turns)
}

// runTurns lets each handler that waits have its turn, and then runs their last
// units, in one savepoint around them all.
func (g *Group) runTurns(group *gathering, turns []*unit) bool {
	if len(turns) == 0 {
		return group.err == nil
	}
	g.owed = false
	if group.err != nil || group.keep("SAVEPOINT hapax_turns") != nil {
		g.putBack(turns)
		return false
	}
	alone := g.single > 0
	for i, u := range turns {
		late := time.Since(group.began) > g.config.MaxAge
		if group.err != nil || group.session.altered || len(group.members)+len(group.turns) > 0 && (late || g.slow || g.single > 0) {
			g.putBack(turns[i:])
			g.conclude(group)
			return false
		}
		if u.claim() {
			g.runTurn(group, u)
			g.careful, g.single = max(g.careful-1, 0), max(g.single-1, 0)
		}
	}
	g.conclude(group)
	// Nothing goes behind a turn that is to be alone: publishes, claims and subscriptions
	// would fail with a handler that fails each time.
	return group.err == nil && !alone
}

// conclude runs the last units of the turns, those of a kind together. If that
// fails the turns are undone, and each of the units runs once more by itself, to
// be undone as well: to find out whose fault it was.
func (g *Group) conclude(group *gathering) {
	turns := group.turns
	group.turns = nil
	var kinds []*kind
	byKind := map[*kind][]*unit{}
	for _, u := range turns {
		if last := u.turn.last; last != nil {
			if byKind[last.kind] == nil {
				kinds = append(kinds, last.kind)
			}
			byKind[last.kind] = append(byKind[last.kind], last)
		}
	}
	err := group.err
	for _, kind := range kinds {
		if err == nil {
			err = group.inSavepoint(func(tx *sql.Tx) error { return kind.call(tx, byKind[kind]) })
		}
	}
	if err == nil {
		err = group.keep("RELEASE hapax_turns")
	}
	if err == nil {
		group.members = append(group.members, turns...)
		return
	}
	g.careful = 2 * g.config.MaxUnits
	if group.err == nil {
		_ = group.keep("ROLLBACK TO hapax_turns")
	}
	for _, u := range turns {
		u.finish(group.blame(u.turn.last))
	}
	if group.err == nil {
		_ = group.keep("RELEASE hapax_turns")
	}
}

// keep runs a statement without which the group cannot go on.
func (group *gathering) keep(statement string) error {
	if err := group.session.run(statement); err != nil {
		group.err = fmt.Errorf("%w: %s: %w", ErrRolledBack, statement, err)
	}
	return group.err
}

// blame returns the error of a unit that runs alone, or ErrUndone if it has none.
func (group *gathering) blame(last *unit) error {
	if group.err != nil || last == nil {
		return errors.Join(ErrUndone, group.err)
	}
	return group.inSavepoint(func(tx *sql.Tx) error {
		if err := last.kind.call(tx, []*unit{last}); err != nil {
			return err
		}
		return ErrUndone
	})
}

// putBack returns units that did not begin to the front of the queue.
func (g *Group) putBack(units []*unit) {
	g.owed = slices.ContainsFunc(units, func(u *unit) bool { return u.turn != nil })
	g.mu.Lock()
	g.queue = append(units, g.queue...)
	g.mu.Unlock()
}

const (
	savepoint = "SAVEPOINT hapax_unit"
	release   = "RELEASE hapax_unit"
	undo      = "ROLLBACK TO hapax_unit"
)

// runPlain runs units of one kind in one savepoint; if that fails, one by one, so
// that the healthy ones among them do commit.
func (g *Group) runPlain(group *gathering, kind *kind, units []*unit) {
	err := group.inSavepoint(func(tx *sql.Tx) error { return kind.call(tx, units) })
	switch {
	case group.err != nil:
		for _, u := range units {
			u.finish(group.err)
		}
	case err == nil:
		group.members = append(group.members, units...)
	case len(units) == 1:
		units[0].finish(err)
	default:
		for i := range units {
			g.runPlain(group, kind, units[i:i+1])
		}
	}
}

// inSavepoint runs fn so that an error undoes it, and it alone. It sets the
// group's error when the transaction itself is gone.
func (group *gathering) inSavepoint(fn func(*sql.Tx) error) error {
	if group.err != nil {
		return group.err
	}
	s := group.session
	if err := s.run(savepoint); err != nil {
		group.err = fmt.Errorf("set savepoint: %w", err)
		return group.err
	}
	tx, guard, err := s.begin()
	if err == nil {
		err = fn(tx)
		guard.finish(tx)
		if guard.misused.Load() {
			err = ErrNotYours
		}
	}
	return group.endSavepoint(err)
}

// endSavepoint keeps what happened in the savepoint, or undoes it because of err.
func (group *gathering) endSavepoint(err error) error {
	s := group.session
	if s.lost {
		group.err = errors.Join(ErrRolledBack, err)
		return group.err
	}
	if err != nil && group.keep(undo) != nil {
		return group.err
	}
	// After an undo the savepoint itself still stands.
	if group.keep(release) != nil {
		return group.err
	}
	return err
}

func (u *unit) finish(err error) {
	if u.turn != nil {
		u.turn.settle(err)
		return
	}
	u.done(err)
}

// fail ends a unit that never ran.
func (u *unit) fail(err error) {
	if u.turn != nil {
		u.turn.refuse(u.turn.unbegun(err))
		return
	}
	u.done(err)
}
