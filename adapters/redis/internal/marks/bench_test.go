package marks_test

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
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

var used = regexp.MustCompile(`used_cpu_(?:sys|user)_main_thread:([0-9.]+)`)

func mainThread(b *testing.B, client *redis.Client) (total time.Duration) {
	info, err := client.Info(b.Context(), "cpu").Result()
	require.NoError(b, err)
	for _, match := range used.FindAllStringSubmatch(info, -1) {
		seconds, err := strconv.ParseFloat(match[1], 64)
		require.NoError(b, err)
		total += time.Duration(seconds * float64(time.Second))
	}
	return total
}
