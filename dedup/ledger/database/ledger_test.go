package database_test

import (
	"context"
	"errors"
	"flag"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/database"
	"github.com/hapax-go/hapax/dedup/ledger/ledgertest"
)

var background = context.Background()

func TestConformance(t *testing.T) {
	onServers(t, func(t *testing.T, s server) {
		table := s.tables(t)
		ledgertest.Run(t, func(t *testing.T, options ledgertest.Options) ledgertest.Harness {
			var clock skew
			open := func() dedup.Ledger {
				return s.open(t, table, database.Config{Window: options.Window, Clock: clock.Ahead, Upkeep: -1})
			}
			return ledgertest.Harness{Ledger: open(), Peer: open, Reopen: open, Advance: clock.Advance}
		})
	})
}

// TestConformanceWhileTurning packs as soon as there is a mark, and takes a step
// of it after every call, so that the suite meets every stage, and every call the
// turn.
func TestConformanceWhileTurning(t *testing.T) {
	// The histories are those that TestConformance runs; here each call is five.
	require.NoError(t, flag.Set("rapid.checks", "20"))
	t.Cleanup(func() { require.NoError(t, flag.Set("rapid.checks", "100")) })
	onServers(t, func(t *testing.T, s server) {
		table := s.tables(t)
		ledgertest.Run(t, func(t *testing.T, options ledgertest.Options) ledgertest.Harness {
			var clock skew
			open := func() dedup.Ledger {
				return restless{s.open(t, table, database.Config{Window: options.Window, Clock: clock.Ahead, Upkeep: -1, RunMarks: 1})}
			}
			return ledgertest.Harness{Ledger: open(), Peer: open, Reopen: open, Advance: clock.Advance}
		})
	})
}

// restless takes a step of upkeep after every call.
type restless struct{ *database.Ledger }

func (r restless) step(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	if _, err := r.Step(ctx); !errors.Is(err, database.ErrBusy) {
		return err
	}
	return nil
}

func (r restless) Claim(ctx context.Context, lease time.Duration, entries []*dedup.Entry) error {
	return r.step(ctx, r.Ledger.Claim(ctx, lease, entries))
}

func (r restless) Renew(ctx context.Context, lease time.Duration, entries []*dedup.Entry) error {
	return r.step(ctx, r.Ledger.Renew(ctx, lease, entries))
}

func (r restless) Complete(ctx context.Context, entries []*dedup.Entry) error {
	return r.step(ctx, r.Ledger.Complete(ctx, entries))
}

func (r restless) Release(ctx context.Context, entries []*dedup.Entry) error {
	return r.step(ctx, r.Ledger.Release(ctx, entries))
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	onServers(t, func(t *testing.T, s server) {
		db := s.connect(t)
		_, err := database.Open(t.Context(), db, s.dialect, database.Config{Table: "nowhere"})
		require.ErrorIs(t, err, database.ErrNoSchema)
		require.ErrorContains(t, err, "run `hapax migrate up`")
		_, err = database.Open(t.Context(), db, s.dialect, database.Config{Table: "x; DROP TABLE y"})
		require.ErrorContains(t, err, "expected a letter or _")
		_, err = database.Open(t.Context(), db, "oracle", database.Config{})
		require.ErrorContains(t, err, `dialect is "oracle", expected "postgres" or "mysql"`)
	})
}
