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
// 200 on a growing set: to be looked for, and to be marked, by scripts alone, and when it
// is looked for without one.
func BenchmarkServer(b *testing.B) {
	for name, peeks := range map[string]bool{"script": false, "peek": true} {
		b.Run(name, func(b *testing.B) {
			m := newMarked(b)
			m.put(0, 200_000, 0)
			ids := 200_000
			var looking, marking time.Duration
			for b.Loop() {
				began := mainThread(b, m.client)
				var places [][]byte
				if peeks {
					places = m.peek(ids, ids+200)
				} else {
					require.Zero(b, m.find(ids, ids+200, 0))
				}
				looked := mainThread(b, m.client)
				m.putAt(ids, ids+200, 0, places)
				looking += looked - began
				marking += mainThread(b, m.client) - looked
				ids += 200
			}
			each := float64(ids - 200_000)
			b.ReportMetric(float64(looking.Nanoseconds())/each, "look-ns/ID")
			b.ReportMetric(float64(marking.Nanoseconds())/each, "mark-ns/ID")
			b.ReportMetric(0, "ns/op")
		})
	}
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
