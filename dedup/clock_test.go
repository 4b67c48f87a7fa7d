package dedup

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// renewals counts calls of Renew.
type renewals struct {
	Ledger
	calls int
}

func (r *renewals) Claim(_ context.Context, _ time.Duration, entries []*Entry) error {
	entries[0].Verdict = Fresh
	return nil
}

func (r *renewals) Renew(context.Context, time.Duration, []*Entry) error {
	r.calls++
	return nil
}

// A clock that is set back must not make leases look younger than they are: they would not
// be renewed until it has caught up, and a zombie would not ask whether it is one.
func TestAClockThatIsSetBackKeepsNoLeaseFromBeingRenewed(t *testing.T) {
	ledger := &renewals{}
	const lease = time.Hour // the heartbeat itself stays quiet
	s := NewLedgerStrategy(ledger, nil, LedgerOptions{Lease: lease, Logger: slog.New(slog.DiscardHandler)})
	defer s.Close()
	held, err := s.Claim(t.Context(), []*Event{{}})
	require.NoError(t, err)
	claim := held.(*ledgerClaim)
	s.keeper.beat()
	require.NoError(t, claim.confirm(t.Context()))
	require.Zero(t, ledger.calls, "it was renewed just now")

	before := func() { claim.deadline.Store(time.Now().Add(lease + time.Minute).UnixNano()) }
	before()
	require.NoError(t, claim.confirm(t.Context()))
	require.Equal(t, 1, ledger.calls, "confirm")
	before()
	s.keeper.beat()
	require.Equal(t, 2, ledger.calls, "heartbeat")
	require.LessOrEqual(t, claim.deadline.Load(), time.Now().Add(lease).UnixNano())
}
