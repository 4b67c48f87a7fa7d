package inbox

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// write is the writer's goroutine. It keeps one connection and replaces it when
// an error leaves its state in doubt.
func (g *Group) write() {
	defer close(g.ended)
	for {
		err := g.connect()
		if err == nil {
			return // closed, and the queue is empty
		}
		g.config.Logger.Warn("database writer opens a new connection", "error", err)
	}
}

// errReconnect makes database/sql throw the connection away.
func errReconnect(err error) error { return errors.Join(err, driver.ErrBadConn) }

// connect serves the queue on one connection, until it must be replaced.
func (g *Group) connect() error {
	conn, err := g.db.Conn(context.Background())
	if err != nil {
		g.wait()
		g.reject(fmt.Errorf("connect database writer: %w", err))
		if g.over() {
			return nil
		}
		return err
	}
	defer conn.Close()
	return conn.Raw(func(raw any) error {
		s := newSession(raw.(driver.Conn))
		defer s.close()
		// The writer waits for the lock by itself, see begin.
		if err := s.run("PRAGMA busy_timeout = 0"); err != nil {
			g.wait()
			g.reject(err)
			return errReconnect(err)
		}
		for g.wait() {
			if err := g.serve(s); err != nil {
				return errReconnect(err)
			}
		}
		return nil
	})
}

// wait blocks until there is something to do; false: nothing any more.
func (g *Group) wait() bool {
	for {
		g.mu.Lock()
		pending, closed := len(g.queue) > 0, g.closed
		g.mu.Unlock()
		if pending || closed {
			return pending
		}
		<-g.wake
	}
}

func (g *Group) over() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed && len(g.queue) == 0
}

// reject fails everything queued. Nothing of it ran.
func (g *Group) reject(err error) {
	for _, u := range g.take(1 << 30) {
		if u.claim() {
			u.fail(err)
		}
	}
}

// serve runs one group: BEGIN, units as long as there are some, COMMIT. An error
// means that the connection must be replaced.
func (g *Group) serve(s *session) error {
	shared, err := g.begin(s)
	if err != nil {
		g.reject(fmt.Errorf("begin transaction: %w", err))
		return err
	}
	group := &gathering{session: s, began: time.Now()}
	for group.err == nil && len(group.members) < g.config.MaxUnits {
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
			err = fmt.Errorf("%w: %w", ErrCommitUnknown, err)
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
	var kinds []*kind
	byKind := map[*kind][]*unit{}
	var turns []*unit
	for _, u := range units {
		switch {
		case u.turn != nil:
			turns = append(turns, u)
		case !u.claim():
		case u.kind.alone:
			g.runPlain(group, u.kind, []*unit{u})
		default:
			if byKind[u.kind] == nil {
				kinds = append(kinds, u.kind)
			}
			byKind[u.kind] = append(byKind[u.kind], u)
		}
	}
	for _, kind := range kinds {
		g.runPlain(group, kind, byKind[kind])
	}
	for i, u := range turns {
		late := time.Since(group.began) > g.config.MaxAge
		if group.err != nil || len(group.members) > 0 && (late || g.slow) {
			g.putBack(turns[i:])
			return false
		}
		if u.claim() {
			g.runTurn(group, u)
		}
	}
	return group.err == nil
}

// putBack returns turns that did not begin to the front of the queue.
func (g *Group) putBack(turns []*unit) {
	g.mu.Lock()
	g.queue = append(turns, g.queue...)
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
	if err != nil {
		if failure := s.run(undo); failure != nil {
			group.err = fmt.Errorf("%w: undo unit: %w", ErrRolledBack, failure)
			return group.err
		}
	}
	// After an undo the savepoint itself still stands.
	if failure := s.run(release); failure != nil {
		group.err = fmt.Errorf("%w: keep unit: %w", ErrRolledBack, failure)
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
		u.turn.refuse(err)
		return
	}
	u.done(err)
}
