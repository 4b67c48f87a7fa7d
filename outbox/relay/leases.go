package relay

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// lease is the right to publish a shard. The token grows with every owner.
type lease struct {
	shard int
	owner string
	token int64
	// until is by the clock of this process, and never later than what the
	// database's clock says: it is counted from before the statement was sent.
	until time.Time
}

func (l lease) valid() bool { return time.Now().Before(l.until) }

// leases are the shards of one relay.
type leases struct {
	table *Table
	owner string
	ttl   time.Duration

	mu      sync.Mutex
	held    map[int]lease
	leaving map[int]bool // held, to be given back by the worker that uses it
}

// of returns the leases that a worker may use, in the order of shards, and those
// of its shards that another relay waits for.
func (l *leases) of(worker, workers int) (usable []lease, leaving []int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for shard, lease := range l.held {
		switch {
		case shard%workers != worker:
		case l.leaving[shard]:
			leaving = append(leaving, shard)
		case lease.valid():
			usable = append(usable, lease)
		}
	}
	slices.SortFunc(usable, func(a, b lease) int { return a.shard - b.shard })
	return usable, leaving
}

// count is the number of shards held.
func (l *leases) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held) - len(l.leaving)
}

// tick tells the others that this relay lives, renews what it holds, and takes or
// gives back shards so that every relay has its share. It returns whether
// anything changed.
func (l *leases) tick(ctx context.Context, listening bool) (changed bool, err error) {
	relays, err := l.beat(ctx, listening)
	if err != nil {
		return false, fmt.Errorf("tell other relays: %w", err)
	}
	if err := l.renew(ctx); err != nil {
		return false, fmt.Errorf("renew shard leases: %w", err)
	}
	share := (outbox.Shards + relays - 1) / relays
	switch mine := l.count(); {
	case mine > share:
		l.leave(mine - share)
		return true, nil
	case mine < share:
		return l.acquire(ctx, share-mine)
	}
	return false, nil
}

// beat counts the relays that live, this one included.
func (l *leases) beat(ctx context.Context, listening bool) (relays int, err error) {
	t := l.table
	update := "ON CONFLICT (instance) DO UPDATE SET expires_at = excluded.expires_at, listening = excluded.listening"
	if t.dialect == sqldb.MySQL {
		update = "ON DUPLICATE KEY UPDATE expires_at = VALUES(expires_at), listening = VALUES(listening)"
	}
	_, err = t.exec(ctx, "INSERT INTO "+t.relays+" (instance, expires_at, listening) VALUES (?, "+t.millis+" + ?, ?) "+update,
		l.owner, l.ttl.Milliseconds(), listening)
	if err != nil {
		return 0, err
	}
	if _, err = t.exec(ctx, "DELETE FROM "+t.relays+" WHERE expires_at < "+t.millis); err != nil {
		return 0, err
	}
	err = t.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&relays) }, "SELECT count(*) FROM "+t.relays)
	return max(relays, 1), err
}

// renew prolongs what is held, unless it is leaving: a worker that is stuck in a
// publish must not keep a shard that another relay waits for.
func (l *leases) renew(ctx context.Context) error {
	l.mu.Lock()
	var shards []int
	for shard := range l.held {
		if !l.leaving[shard] {
			shards = append(shards, shard)
		}
	}
	l.mu.Unlock()
	if len(shards) == 0 {
		return nil
	}
	t, until := l.table, time.Now().Add(l.ttl)
	_, err := t.exec(ctx, "UPDATE "+t.shards+" SET expires_at = "+t.millis+" + ? WHERE owner = ? AND shard IN ("+join(shards)+")",
		l.ttl.Milliseconds(), l.owner)
	if err != nil {
		return err
	}
	tokens := map[int]int64{}
	err = t.query(ctx, func(rows *sql.Rows) error {
		var shard int
		var token int64
		err := rows.Scan(&shard, &token)
		tokens[shard] = token
		return err
	}, "SELECT shard, token FROM "+t.shards+" WHERE owner = ? AND shard IN ("+join(shards)+")", l.owner)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, shard := range shards {
		held := l.held[shard]
		if token, mine := tokens[shard]; !mine || token != held.token {
			delete(l.held, shard) // it ran out, and another relay was there first
			continue
		}
		held.until = until
		l.held[shard] = held
	}
	return nil
}

// leave marks shards that their workers are to give back.
func (l *leases) leave(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for shard := range l.held {
		if n > 0 && !l.leaving[shard] {
			l.leaving[shard] = true
			n--
		}
	}
}

// acquire takes up to n shards that nobody owns.
func (l *leases) acquire(ctx context.Context, n int) (changed bool, err error) {
	t := l.table
	var free []lease
	err = t.query(ctx, func(rows *sql.Rows) error {
		var f lease
		err := rows.Scan(&f.shard, &f.token)
		free = append(free, f)
		return err
	}, "SELECT shard, token FROM "+t.shards+" WHERE expires_at <= "+t.millis)
	if err != nil {
		return false, fmt.Errorf("look for free shards: %w", err)
	}
	// Relays that start together would all try the same ones first.
	rand.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	for _, f := range free {
		if n == 0 {
			break
		}
		until := time.Now().Add(l.ttl)
		taken, err := t.exec(ctx, "UPDATE "+t.shards+" SET owner = ?, token = token + 1, expires_at = "+t.millis+" + ? WHERE shard = ? AND token = ? AND expires_at <= "+t.millis,
			l.owner, l.ttl.Milliseconds(), f.shard, f.token)
		if err != nil {
			return changed, fmt.Errorf("take shard %d: %w", f.shard, err)
		}
		if taken == 0 {
			continue
		}
		l.mu.Lock()
		l.held[f.shard] = lease{shard: f.shard, owner: l.owner, token: f.token + 1, until: until}
		delete(l.leaving, f.shard)
		l.mu.Unlock()
		changed = true
		n--
	}
	return changed, nil
}

// release gives shards back. Their workers call it, so that nothing of them is
// under way.
func (l *leases) release(ctx context.Context, shards []int) error {
	if len(shards) == 0 {
		return nil
	}
	l.mu.Lock()
	for _, shard := range shards {
		delete(l.held, shard)
		delete(l.leaving, shard)
	}
	l.mu.Unlock()
	_, err := l.table.exec(ctx, "UPDATE "+l.table.shards+" SET expires_at = 0 WHERE owner = ? AND shard IN ("+join(shards)+")", l.owner)
	if err != nil {
		return fmt.Errorf("give back shards: %w", err)
	}
	return nil
}

// end gives everything back and leaves the list of relays. It goes by the owner's
// name: a shard may have been taken by a statement whose answer was not waited for.
func (l *leases) end(ctx context.Context) error {
	l.mu.Lock()
	clear(l.held)
	clear(l.leaving)
	l.mu.Unlock()
	if _, err := l.table.exec(ctx, "UPDATE "+l.table.shards+" SET expires_at = 0 WHERE owner = ?", l.owner); err != nil {
		return err
	}
	_, err := l.table.exec(ctx, "DELETE FROM "+l.table.relays+" WHERE instance = ?", l.owner)
	return err
}
