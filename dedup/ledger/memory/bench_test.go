package memory_test

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
)

// BenchmarkMemoryClaimComplete claims and completes one new event a round: the
// ledger's share of a message on the hot path.
func BenchmarkMemoryClaimComplete(b *testing.B) {
	ledger := memory.New(memory.Config{MaxEntries: -1})
	var worker atomic.Uint64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		entry := &dedup.Entry{Digest: dedup.Digest{1}}
		entries := []*dedup.Entry{entry}
		// Spread like a hash (splitmix64), and apart between workers.
		state := worker.Add(1) << 56
		for pb.Next() {
			state += 0x9e3779b97f4a7c15
			mixed := (state ^ state>>30) * 0xbf58476d1ce4e5b9
			binary.LittleEndian.PutUint64(entry.ID[:8], mixed^mixed>>27)
			binary.LittleEndian.PutUint64(entry.ID[8:], state)
			entry.Token = dedup.NextToken()
			if ledger.Claim(context.Background(), time.Minute, entries); entry.Verdict != dedup.Fresh {
				b.Fatal(entry.Verdict)
			}
			if ledger.Complete(context.Background(), entries); entry.Lost {
				b.Fatal("lost")
			}
		}
	})
}
