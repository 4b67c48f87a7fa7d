package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/redis/ledger"
	"github.com/hapax-go/hapax/adapters/redis/plain"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
)

// What a claim and a mark cost the server, by its own account of its main thread's
// time, in calls of so many IDs, while 500 leases are held and all slices have marks.
func BenchmarkServer(b *testing.B) {
	for _, batch := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint("batch=", batch), func(b *testing.B) {
			client := redis.NewClient(&redis.Options{Addr: servers.Require(b, servers.Redis).Hosts[0]})
			defer client.Close()
			const window, marks = 8 * time.Hour, 45_000
			var skew time.Duration
			prefix := fmt.Sprintf("hapax:bench:%d", dedup.NextToken())
			l, err := ledger.New(client, ledger.Config{Prefix: prefix, Window: window, Clock: func() time.Duration { return skew }})
			require.NoError(b, err)
			next := 0
			claim := func(n int) []*dedup.Entry {
				entries := make([]*dedup.Entry, n)
				for i := range entries {
					id := dedup.NewID(dedup.Scope{}, strconv.Itoa(next))
					entries[i] = &dedup.Entry{ID: id, Token: dedup.NextToken()}
					next++
				}
				require.NoError(b, l.Claim(b.Context(), time.Minute, entries))
				return entries
			}
			for done := 0; done < marks; done += 500 { // in nine slices of time, as after a while
				skew = window / 8 * time.Duration(done*9/marks)
				require.NoError(b, l.Complete(b.Context(), claim(500)))
			}
			claim(500) // is held meanwhile
			defer func() {
				keys, err := client.Keys(context.Background(), prefix+":*").Result()
				require.NoError(b, errors.Join(err, client.Unlink(context.Background(), keys...).Err()))
			}()
			before := mainThread(b, client)
			ids := 0
			for b.Loop() {
				require.NoError(b, l.Complete(b.Context(), claim(batch)))
				ids += batch
			}
			b.ReportMetric(float64((mainThread(b, client)-before).Nanoseconds())/float64(ids), "server-ns/ID")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func mainThread(b *testing.B, client *redis.Client) time.Duration {
	used, err := plain.MainThread(b.Context(), client)
	require.NoError(b, err)
	return used
}
