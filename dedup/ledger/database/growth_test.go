package database_test

import (
	"crypto/rand"
	"errors"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/database"
	"github.com/hapax-go/hapax/internal/servers"
)

// TestGrowth fills a ledger with new IDs while its upkeep runs, and tells the rate
// of every tenth of them and the bytes of all. HAPAX_SOAK=1; HAPAX_MARKS says how
// many, a million by default.
func TestGrowth(t *testing.T) {
	servers.OnRequest(t, "HAPAX_SOAK", "it takes minutes")
	count, err := strconv.Atoi(os.Getenv("HAPAX_MARKS"))
	if err != nil {
		count = 1_000_000
	}
	onServers(t, func(t *testing.T, s server) {
		ledger := s.open(t, s.tables(t), database.Config{})
		fill(t, ledger, 10_000)
		start := time.Now()
		fill(t, ledger, 100_000)
		first := 100_000 / time.Since(start).Seconds()
		t.Logf("at 10 thousand: %.0f new IDs a second", first)
		for part := range 10 {
			start := time.Now()
			fill(t, ledger, count/10)
			rate := float64(count/10) / time.Since(start).Seconds()
			t.Logf("at %d thousand: %.0f new IDs a second, %.2f of the first", (part+1)*count/10_000+110, rate, rate/first)
		}
		require.NoError(t, ledger.Maintain(t.Context()))
		for table, size := range s.sizes(t, ledger.Tables()) {
			t.Logf("%s: %.1f bytes an ID", table, float64(size)/float64(count+110_000))
		}
	})
}

// fill claims and completes new IDs, 500 at a time on four connections.
func fill(t testing.TB, ledger *database.Ledger, count int) {
	t.Helper()
	var left atomic.Int64
	left.Store(int64(count))
	var workers sync.WaitGroup
	errs := make([]error, 4)
	for worker := range errs {
		workers.Go(func() {
			for errs[worker] == nil && left.Add(-500) > -500 {
				entries := make([]*dedup.Entry, 500)
				for i := range entries {
					entries[i] = &dedup.Entry{Token: dedup.NextToken(), Digest: dedup.Digest{1}}
					_, _ = rand.Read(entries[i].ID[:])
				}
				errs[worker] = errors.Join(ledger.Claim(t.Context(), time.Minute, entries), ledger.Complete(t.Context(), entries))
				if entries[0].Verdict != dedup.Fresh || entries[499].Lost {
					errs[worker] = errors.Join(errs[worker], errors.New("a new ID was not fresh"))
				}
			}
		})
	}
	workers.Wait()
	require.NoError(t, errors.Join(errs...))
}
