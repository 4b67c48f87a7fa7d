package sqlite

import (
	"context"
	"fmt"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/coalesce"
)

// pessimistic is the strategy "inbox" with a lease taken before the handler runs,
// for handlers with effects outside of the file. The lease comes from the ledger;
// the commit is that of the optimistic claim, and ends the lease with the mark.
type pessimistic struct {
	*strategy
	leases *dedup.LedgerStrategy
}

func (b *Broker) newPessimistic(s *strategy) *pessimistic {
	leases := dedup.NewLedgerStrategy(coalesce.New(s.marks.Ledger), b.Publisher(), dedup.LedgerOptions{Lease: b.config.LeaseDuration, Logger: b.config.Logger})
	b.mu.Lock()
	b.leases = append(b.leases, leases)
	b.mu.Unlock()
	return &pessimistic{s, leases}
}

// Claim implements dedup.Strategy.
func (p *pessimistic) Claim(ctx context.Context, events []*dedup.Event) (dedup.Claim, error) {
	if err := fromHere(events); err != nil {
		return nil, err
	}
	lease, err := p.leases.Claim(ctx, events)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // such as errLeaseLost; "canceled" says nothing
	}
	if err != nil || lease == nil {
		return nil, err
	}
	return &leasedClaim{p.fresh(events), lease}, nil
}

type leasedClaim struct {
	*claim
	lease dedup.Claim
}

// Context implements dedup.Claim.
func (c *leasedClaim) Context(ctx context.Context) context.Context {
	return c.claim.Context(c.lease.Context(ctx))
}

// Commit implements dedup.Claim. The mark is refused when another token holds the
// lease, in the same transaction.
func (c *leasedClaim) Commit(ctx context.Context, outputs []dedup.Output) error {
	err := c.claim.Commit(ctx, outputs)
	if err == nil {
		c.lease.Release(context.WithoutCancel(ctx)) // ends the heartbeat
	}
	return err
}

// Release implements dedup.Claim.
func (c *leasedClaim) Release(ctx context.Context) {
	c.claim.Release(ctx)
	c.lease.Release(ctx)
}

// kindOf checks the kind of claim asked for.
func kindOf(options adapters.StrategyOptions) (dedup.ClaimKind, error) {
	switch options.Claim {
	case "", dedup.Optimistic:
		return dedup.Optimistic, nil
	case dedup.Pessimistic:
		return dedup.Pessimistic, nil
	default:
		return "", fmt.Errorf("claim kind is %q, expected %q or %q", options.Claim, dedup.Optimistic, dedup.Pessimistic)
	}
}
