package marks_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/redis/internal/marks"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
)

var putAll = redis.NewScript(marks.Lua + `
openMarks(KEYS[1], tonumber(ARGV[1]), 0, 0)
read(2, #ARGV, 1)
for i = 2, #ARGV do assert(not put(i, '\1\2', '')) end
closeMarks()
return level + split`)

// What an ID takes in memory, by the server's own account. HAPAX_SOAK=1 marks a
// million.
func TestMemory(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: servers.Require(t, servers.Redis).Hosts[0]})
	defer client.Close()
	total := 100_000
	if os.Getenv("HAPAX_SOAK") == "1" {
		total = 1_000_000
	}
	set := marks.NewSet(fmt.Sprintf("hapax:test:%d", dedup.NextToken()), 7*24*time.Hour)
	buckets := 0
	for done := 0; done < total; done += 500 {
		args := []any{set.SliceLength()}
		for i := range 500 {
			id := dedup.NewID(dedup.Scope{}, fmt.Sprint(done+i))
			args = append(args, id[:])
		}
		var err error
		buckets, err = putAll.Run(t.Context(), client, []string{set.Key}, args...).Int()
		require.NoError(t, err)
	}
	var bytes int64
	pipe := client.Pipeline()
	for bucket := range buckets {
		pipe.MemoryUsage(t.Context(), fmt.Sprintf("%s:%d", set.Key, bucket), 0)
	}
	results, err := pipe.Exec(t.Context())
	require.NoError(t, err)
	for _, result := range results {
		bytes += result.(*redis.IntCmd).Val()
	}
	directory, err := client.Get(t.Context(), set.Key).Result()
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(total), strings.Fields(directory)[4], directory)
	t.Logf("%d IDs in %d buckets: %.1f bytes an ID", total, buckets, float64(bytes)/float64(total))
	require.Less(t, float64(bytes)/float64(total), 24.0)
	keys := []string{set.Key}
	for bucket := range buckets {
		keys = append(keys, fmt.Sprintf("%s:%d", set.Key, bucket))
	}
	require.NoError(t, client.Unlink(t.Context(), keys...).Err())
}
