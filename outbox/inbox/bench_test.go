package inbox_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

// BenchmarkInbox has 500 deliveries in flight, each with a mark, a row and an output.
func BenchmarkInbox(b *testing.B) {
	for _, dialect := range []sqldb.Dialect{sqldb.Postgres, sqldb.MySQL} {
		b.Run(string(dialect), func(b *testing.B) {
			r := newRig(b, dialect, sqldbtest.New(b, dialect))
			h := r.process().handler(r.effect)
			var next, outcomes atomic.Int64
			h.observe = func(outcome dedup.Outcome) {
				if outcome == dedup.Processed {
					outcomes.Add(1)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			var all sync.WaitGroup
			for range 500 {
				all.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						h.insist(fmt.Sprint("event-", i))
					}
				})
			}
			all.Wait()
			b.StopTimer()
			require.EqualValues(b, b.N, outcomes.Load())
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
