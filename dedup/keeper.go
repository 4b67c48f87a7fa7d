package dedup

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// keeper renews the leases of claims that run longer than a third of the lease.
// A round looks at what is in flight, six times a lease; short handlers cost one insert
// and one removal. That of a Resident ledger is nil: there is nothing to renew.
type keeper struct {
	ledger Ledger
	lease  time.Duration
	logger *slog.Logger

	// round is when the current round began, in unix nanoseconds.
	round   atomic.Int64
	running atomic.Bool
	_       [64]byte // what is above hardly changes, the lists do all the time
	lists   [16]claimList

	mu     sync.Mutex
	closed bool
	stop   chan struct{}
	done   sync.WaitGroup
}

func newKeeper(ledger Ledger, lease time.Duration, logger *slog.Logger) *keeper {
	return &keeper{ledger: ledger, lease: lease, logger: logger, stop: make(chan struct{})}
}

// deadline is until when a lease that is asked for now stands at least. It counts
// from the start of the round, which costs no look at the clock; being early by
// up to a sixth of the lease only means that the ledger is asked sooner.
func (k *keeper) deadline() int64 {
	if k == nil {
		return 0
	}
	if !k.running.Load() {
		k.start()
	}
	return k.round.Load() + int64(k.lease)
}

// start begins the heartbeat with the first claim.
func (k *keeper) start() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running.Load() {
		return
	}
	k.round.Store(time.Now().UnixNano())
	k.running.Store(true)
	if !k.closed { // else leases run out; commits stay fenced
		k.done.Go(k.run)
	}
}

// list spreads claims, so that handlers do not wait for each other's. It goes by the
// page of memory that a claim lies in: a processor allocates from pages of its own, so
// what it finds in a list is most likely in its cache. What a list points to never moves.
func (k *keeper) list(claim *ledgerClaim) *claimList {
	const page = 8192 // the allocator's
	return &k.lists[uintptr(unsafe.Pointer(claim))/page%uintptr(len(k.lists))]
}

// add puts a claim under the heartbeat.
func (k *keeper) add(claim *ledgerClaim) {
	if k != nil {
		k.list(claim).add(claim)
	}
}

// remove takes a claim from the heartbeat and reports whether it was under it.
func (k *keeper) remove(claim *ledgerClaim) bool { return k != nil && k.list(claim).remove(claim) }

func (k *keeper) close() {
	if k == nil {
		return
	}
	k.mu.Lock()
	if !k.closed {
		k.closed = true
		close(k.stop)
	}
	k.mu.Unlock()
	k.done.Wait()
}

func (k *keeper) run() {
	ticker := time.NewTicker(k.lease / 6)
	defer ticker.Stop()
	for {
		select {
		case <-k.stop:
			return
		case <-ticker.C:
			k.beat()
		}
	}
}

// due lists the claims whose last renewal is a third of the lease ago, or that seem to have
// been renewed later than now: the clock was set back. It works on copies of their entries:
// the handler's goroutine may be completing the originals right now.
func (k *keeper) due(now time.Time) (claims []*ledgerClaim, entries []*Entry) {
	limit := now.Add(k.lease * 2 / 3).UnixNano() // deadline of one renewed a third ago
	latest := now.Add(k.lease).UnixNano()        // of one renewed now
	for i := range k.lists {
		k.lists[i].due(limit, latest, func(claim *ledgerClaim) {
			claims = append(claims, claim)
			for _, entry := range claim.entries {
				// Only what the claim fixed; Verdict and Lost belong to the commit.
				entries = append(entries, &Entry{ID: entry.ID, Token: entry.Token, EventID: entry.EventID, Scope: entry.Scope, Topic: entry.Topic})
			}
		})
	}
	return claims, entries
}

// beat renews what is due. When the ledger cannot be reached the claim is given
// up once its lease has surely run out: its handler should stop, because another
// worker may already be at it. Its commit stays fenced either way.
func (k *keeper) beat() {
	asked := time.Now()
	k.round.Store(asked.UnixNano())
	claims, entries := k.due(asked)
	if len(claims) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), k.lease/3)
	err := k.ledger.Renew(ctx, k.lease, entries)
	cancel()
	if err != nil {
		k.logger.Warn("renew leases", "claims", len(claims), "error", err)
	}
	for _, claim := range claims {
		mine := entries[:len(claim.entries)]
		entries = entries[len(claim.entries):]
		switch {
		case err == nil && !anyLost(mine):
			claim.deadline.Store(asked.Add(k.lease).UnixNano())
		case err == nil, time.Now().UnixNano() > claim.deadline.Load():
			if !k.remove(claim) {
				continue // it was committed or released meanwhile
			}
			claim.context.lose()
			k.logger.Warn("lease lost: the handler's commit will be refused", "event", mine[0].EventID, "handler", mine[0].Scope.Handler)
		}
	}
}

func anyLost(entries []*Entry) bool {
	for _, entry := range entries {
		if entry.Lost {
			return true
		}
	}
	return false
}

// ledgerClaim is a claim held by leases.
type ledgerClaim struct {
	strategy *LedgerStrategy
	entries  []*Entry
	one      [1]*Entry    // backs entries when the claim covers one event
	deadline atomic.Int64 // unix nanoseconds until which the leases stand at least; 0: they have no end
	place    int          // in the keeper's list
	context  leaseContext
}
