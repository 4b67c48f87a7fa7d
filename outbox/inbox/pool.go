package inbox

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Pool runs turns and commits in shared transactions on several connections of a
// PostgreSQL or MySQL database, side by side.
//
//	            ┌─ group ─ BEGIN, marks of all │ turn │ turn │ … │ outputs, COMMIT
//	queue ──────┼─ group ─ …
//	            └─ group ─ …
//	slow ones ──── each in a transaction of its own
//
// # One group
//
// The marks of all its members are inserted first, in one statement, sorted by
// ID: whichever transaction comes second with an ID waits for the first one's end
// and is then refused, before its handler has written anything. The handlers then
// have the transaction one after another, and the outputs of all are inserted in
// one statement before the COMMIT.
//
// Each round trip costs more than what it asks for. So groups run without
// savepoints for as long as no handler fails. When one does, everybody who has
// written is undone (ErrUndone, and comes again), and the turns of some time to
// come get savepoints: then the one that fails is undone alone, and its mark is
// taken out again before the COMMIT. It has its next turn in a transaction of its own:
// others may have left something in this one that was in its way.
//
// # Rows that many want
//
// Groups side by side hold the row locks of many handlers each, and wait for each
// other's: a deadlock that a transaction for each handler would not have. After
// one, groups are small and run one at a time for a while, and so do transactions
// of one handler, so that those of this process cannot meet.
//
// # Killed at each line
//
// Before COMMIT was sent: the server rolls back, and the brokers deliver again.
// After it was sent and before its answer: the server decides; the mark tells on
// the next delivery. Stopped instead of killed (SIGSTOP): the server ends a
// transaction that is idle for too long (sqldb.Options.IdleInTransaction), another
// worker takes the event, and when the stopped one goes on its connection is gone.
type Pool struct {
	config Config
	db     *sql.DB
	marks  *marks
	outbox Outbox

	mu     sync.Mutex
	queue  []*unit
	closed bool
	wake   chan struct{} // has a token when the queue is not empty
	ending chan struct{} // closed by Close
	groups sync.WaitGroup
	alone  chan struct{} // a token for each transaction of one handler
	// careful is the number of turns to come that get savepoints.
	careful atomic.Int64
	// singly is the number of units to come that get a group each.
	singly int
	// contended is the number of groups to come that are small and run one at a
	// time; a slow handler's transaction counts for few of them.
	contended int
	oneByOne  sync.Mutex
	// failed are events whose handlers failed in a transaction that they shared. What others
	// had left in it may be why (a temporary table, a SET LOCAL), so they come again apart.
	failed map[dedup.ID]bool
	// slept are events whose transaction the database ended because no statement came.
	slept map[dedup.ID]bool
}

// maxUnits: larger groups were slower, since all wait for the last. While turns get
// savepoints they are smaller, because more subtransactions than its cache holds make
// PostgreSQL slow for everybody (PGPROC_MAX_CACHED_SUBXIDS).
const (
	maxUnits   = 128
	maxCareful = 64
)

// maxTries bounds how often a unit that never ran meets an error that is nobody's
// fault, before its delivery goes back to the broker.
const maxTries = 5

// slowTurn is the average time above which a handler's turns are not shared.
const slowTurn = 50 * time.Millisecond

// connectTimeout bounds the wait for a connection.
const connectTimeout = 15 * time.Second

func newPool(db *sql.DB, marks *marks, outbox Outbox, config Config) *Pool {
	if config.MaxAge <= 0 {
		config.MaxAge = 100 * time.Millisecond
	}
	config = config.withDefaults()
	config.MaxUnits = min(config.MaxUnits, maxUnits)
	p := &Pool{
		config: config, db: db, marks: marks, outbox: outbox,
		wake: make(chan struct{}, config.Connections), ending: make(chan struct{}),
		alone: make(chan struct{}, config.MaxAlone), failed: map[dedup.ID]bool{}, slept: map[dedup.ID]bool{},
	}
	for range config.Connections {
		p.groups.Go(p.work)
	}
	return p
}

// turn returns an idle turn for a claim.
func (p *Pool) turn(c *commit, pace *pace) *Turn {
	return &Turn{submit: p.submit, commit: c, event: c.rows[0].EventID, pace: pace, results: true}
}

// commit ends a claim's turn, or commits a claim whose handler never had one.
func (p *Pool) commit(ctx context.Context, turn *Turn, c *commit) error {
	if !turn.Unused() {
		return turn.Commit(ctx, func(context.Context, *sql.Tx) error { return nil })
	}
	outcome := make(chan error, 1)
	u := &unit{item: c, done: func(err error) { outcome <- err }}
	if err := p.submit(u); err != nil {
		return err
	}
	select {
	case err := <-outcome:
		return err
	case <-ctx.Done():
	}
	if u.withdraw() {
		return context.Cause(ctx)
	}
	return <-outcome
}

// Close takes no more units, runs those that are queued, and ends the groups.
func (p *Pool) Close() error {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.mu.Unlock()
	if first {
		close(p.ending)
	}
	p.groups.Wait()
	return nil
}

func (p *Pool) submit(units ...*unit) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	for _, u := range units {
		if u.turn != nil && u.turn.pace.slow(slowTurn) {
			p.groups.Go(func() { p.single(u) })
			continue
		}
		u.apart = p.forgive(u)
		p.queue = append(p.queue, u)
	}
	p.signal()
	return nil
}

func (p *Pool) signal() {
	if len(p.queue) == 0 {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// single runs a slow handler in a transaction of its own.
func (p *Pool) single(u *unit) {
	p.alone <- struct{}{}
	defer func() { <-p.alone }()
	if p.crowded() {
		p.oneByOne.Lock()
		defer p.oneByOne.Unlock()
		p.calm(few) // it takes longer than a turn in a group
	}
	for units := []*unit{u}; len(units) > 0; {
		units = p.serve(units, true)
		for _, u := range units {
			u.state.Store(unitQueued)
		}
	}
}

// work runs groups one after another, until the pool is closed and the queue empty.
func (p *Pool) work() {
	for {
		if p.next() {
			continue
		}
		select {
		case <-p.wake:
		case <-p.ending:
			if !p.next() {
				return
			}
		}
	}
}

// next runs one group, and reports whether there was one.
func (p *Pool) next() bool {
	if p.crowded() {
		p.oneByOne.Lock()
		defer p.oneByOne.Unlock()
	}
	units := p.take()
	if len(units) == 0 {
		return false
	}
	p.again(p.serve(units, false))
	return true
}

// few is the most units of a group while others want the same rows.
const few = 8

// contend notes a deadlock, or a lock that was not had in time.
func (p *Pool) contend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.contended = 200
}

// crowded reports whether turns may be waiting for each other's rows.
func (p *Pool) crowded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.contended > 0
}

// calm notes that so many groups have run since.
func (p *Pool) calm(groups int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.contended = max(p.contended-groups, 0)
}

// take removes the next group's units from the queue: a unit that must be alone,
// or those up to the next such one.
func (p *Pool) take() []*unit {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(p.queue), p.config.MaxUnits)
	switch {
	case n == 0:
	case p.singly > 0:
		p.singly--
		n = 1
	case p.contended > 0:
		p.contended--
		n = min(n, few)
	case p.careful.Load() > 0:
		n = min(n, maxCareful)
	}
	for i, u := range p.queue[:n] {
		if u.apart {
			n = max(i, 1)
			break
		}
	}
	units := p.queue[:n:n]
	p.queue = p.queue[n:]
	p.signal() // another group may take the rest
	return units
}

// again puts units that never ran back to the front of the queue. It does so
// after Close too: what was taken is run.
func (p *Pool) again(units []*unit) {
	if len(units) == 0 {
		return
	}
	for _, u := range units {
		u.state.Store(unitQueued)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(units, p.queue...)
	p.signal()
}

// doubt makes the units to come run apart, so that one that cannot commit does
// not undo others once more.
func (p *Pool) doubt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.singly = 4 * p.config.MaxUnits
}

// serve runs one group and returns those that did not run and should come again.
func (p *Pool) serve(units []*unit, alone bool) (left []*unit) {
	claimed := units[:0:0]
	for _, u := range units {
		if u.claim() {
			claimed = append(claimed, u)
		}
	}
	if len(claimed) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	conn, err := p.db.Conn(ctx)
	cancel()
	if err != nil {
		for _, u := range claimed {
			u.fail(fmt.Errorf("connect to database: %w", err))
		}
		return nil
	}
	defer conn.Close()
	_ = conn.Raw(func(raw any) error {
		life, end := context.WithCancel(context.Background())
		defer end()
		session := newPoolSession(life, raw.(driver.Conn), p.marks.dialect, alone)
		session.limit = p.config.IdleTimeout
		defer session.close()
		g := &poolGroup{pool: p, session: session, end: end, alone: alone || len(claimed) == 1}
		g.run(claimed)
		left = g.left
		if session.lost || session.altered || g.doubt {
			return driver.ErrBadConn // throw the connection away
		}
		return nil
	})
	return left
}

// retry decides about units whose group failed before any of them ran: they come
// again, each in a group of its own, a few times.
func (p *Pool) retry(units []*unit, err error) (left []*unit) {
	temporary := sqldb.Retryable(err) || sqldb.IsLost(err) || errors.Is(err, ErrRolledBack)
	for _, u := range units {
		u.tries++
		if u.tries >= maxTries || !temporary && len(units) == 1 {
			u.fail(err)
			continue
		}
		u.apart = true
		left = append(left, u)
	}
	return left
}
