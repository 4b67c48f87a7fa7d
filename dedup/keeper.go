package dedup

import (
	"container/list"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// keeper renews the leases of claims that run longer than a third of the lease.
// Claims stand in a list by the time of their last renewal, so that a round
// looks only at those that are due; short handlers cost one list insert and one
// removal.
type keeper struct {
	ledger Ledger
	lease  time.Duration
	logger *slog.Logger

	mu      sync.Mutex
	claims  list.List // of *ledgerClaim, oldest renewal first
	running bool
	closed  bool
	stop    chan struct{}
	done    sync.WaitGroup
}

func newKeeper(ledger Ledger, lease time.Duration, logger *slog.Logger) *keeper {
	return &keeper{ledger: ledger, lease: lease, logger: logger, stop: make(chan struct{})}
}

// add puts a claim under the heartbeat and starts it with the first one.
func (k *keeper) add(claim *ledgerClaim) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return // the lease runs out; commits stay fenced
	}
	claim.place = k.claims.PushBack(claim)
	if !k.running {
		k.running = true
		k.done.Go(k.run)
	}
}

// remove takes a claim from the heartbeat and reports whether it was under it.
func (k *keeper) remove(claim *ledgerClaim) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if claim.place == nil {
		return false
	}
	k.claims.Remove(claim.place)
	claim.place = nil
	return true
}

func (k *keeper) close() {
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

// due takes the claims whose last renewal is a third of the lease ago. It works
// on copies of their entries: the handler's goroutine may be completing the
// originals right now.
func (k *keeper) due(now time.Time) (claims []*ledgerClaim, entries []*Entry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	limit := now.Add(k.lease * 2 / 3).UnixNano() // deadline of one renewed a third ago
	for place := k.claims.Front(); place != nil; place = place.Next() {
		claim := place.Value.(*ledgerClaim)
		if claim.deadline.Load() > limit {
			break
		}
		claims = append(claims, claim)
		for _, entry := range claim.entries {
			// Only what the claim fixed; Verdict and Lost belong to the commit.
			entries = append(entries, &Entry{ID: entry.ID, Token: entry.Token, EventID: entry.EventID, Scope: entry.Scope, Topic: entry.Topic})
		}
	}
	return claims, entries
}

// beat renews what is due. When the ledger cannot be reached the claim is given
// up once its lease has surely run out: its handler should stop, because another
// worker may already be at it. Its commit stays fenced either way.
func (k *keeper) beat() {
	asked := time.Now()
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
			k.renewed(claim, asked)
		case err == nil, time.Now().UnixNano() > claim.deadline.Load():
			if !k.remove(claim) {
				continue // it was committed or released meanwhile
			}
			claim.lose()
			k.logger.Warn("lease lost: the handler's commit will be refused", "event", mine[0].EventID, "handler", mine[0].Scope.Handler)
		}
	}
}

func (k *keeper) renewed(claim *ledgerClaim, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	claim.deadline.Store(at.Add(k.lease).UnixNano())
	if claim.place != nil {
		k.claims.MoveToBack(claim.place)
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
	one      [1]*Entry     // backs entries when the claim covers one event
	deadline atomic.Int64  // unix nanoseconds at which the leases may have run out
	place    *list.Element // in the keeper; guarded by it

	mu     sync.Mutex
	lost   bool
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// lose cancels the handler's context with ErrLeaseLost.
func (c *ledgerClaim) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = true
	if c.cancel != nil {
		c.cancel(ErrLeaseLost)
	}
}

func (c *ledgerClaim) isLost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}
