package sqlite_test

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/sqlite"
)

// BenchmarkSQLiteMark200 marks 200 new events in a transaction and commits it,
// on a table that had that many marks before.
func BenchmarkSQLiteMark200(b *testing.B) {
	for _, before := range []int{0, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint("on-", before), func(b *testing.B) {
			db := openDB(b, filepath.Join(b.TempDir(), "ledger.db"), recommended)
			ledger := openLedger(b, db, sqlite.Config{})
			entries := events("018f3c1e-7d2a-7cc3-9e0b-5b1d2a3c4d5e", 200)
			mark := func(times int) {
				tx, err := db.Begin()
				require.NoError(b, err)
				for range times {
					for _, entry := range entries {
						_, _ = rand.Read(entry.ID[:])
					}
					require.NoError(b, ledger.Mark(b.Context(), tx, entries))
					require.Equal(b, dedup.Fresh, entries[199].Verdict)
				}
				require.NoError(b, tx.Commit())
			}
			for range before / 10_000 {
				mark(50)
			}
			b.ReportAllocs()
			start := processorTime(b)
			for b.Loop() {
				mark(1)
			}
			b.ReportMetric(float64(processorTime(b)-start)/float64(200*b.N), "cpu-ns/mark")
			b.ReportMetric(float64(200*b.N)/b.Elapsed().Seconds(), "marks/s")
		})
	}
}

// processorTime is what the process has used so far: unlike the rate it hardly
// depends on what else the machine does.
func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
