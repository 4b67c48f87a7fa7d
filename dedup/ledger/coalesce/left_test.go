package coalesce

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
)

// slow is a store that answers each claim after a minute.
type slow struct{ dedup.Ledger }

func (slow) Claim(context.Context, time.Duration, []*dedup.Entry) error {
	time.Sleep(time.Minute)
	return nil
}

func (slow) Close() error { return nil }

// Calls that were left are remembered until they are over and no longer, those that were on
// their way like those that waited behind them.
func TestCallsThatWereLeftAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := New(slow{})
		for token := range uint64(3) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			require.ErrorIs(t, ledger.Claim(ctx, time.Hour, []*dedup.Entry{{Token: token}}), context.DeadlineExceeded)
			cancel()
		}
		require.Equal(t, 3, leftIn(ledger))
		require.NoError(t, ledger.Close())
		require.Zero(t, leftIn(ledger))
	})
}

func leftIn(ledger *Ledger) (calls int) {
	ledger.left.Range(func(any, any) bool { calls++; return true })
	return calls
}
