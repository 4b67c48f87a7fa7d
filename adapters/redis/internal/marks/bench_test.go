package marks_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/redis/plain"
)

// What an ID costs the server, by its own account of its main thread's time, in calls of
// 500 on a growing set: to be looked for, and to be marked, which is also a look.
func BenchmarkServer(b *testing.B) {
	const before = 200_000
	m := newMarked(b)
	m.put(0, before, 0)
	ids := before
	var looking, marking time.Duration
	for b.Loop() {
		began := mainThread(b, m.client)
		require.Zero(b, m.find(ids, ids+500, 0))
		looked := mainThread(b, m.client)
		m.put(ids, ids+500, 0)
		looking += looked - began
		marking += mainThread(b, m.client) - looked
		ids += 500
	}
	each := float64(ids - before)
	b.ReportMetric(float64(looking.Nanoseconds())/each, "look-ns/ID")
	b.ReportMetric(float64(marking.Nanoseconds())/each, "mark-ns/ID")
	b.ReportMetric(0, "ns/op")
}

func mainThread(b *testing.B, client *redis.Client) time.Duration {
	used, err := plain.MainThread(b.Context(), client)
	require.NoError(b, err)
	return used
}
