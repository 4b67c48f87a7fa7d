package marks_test

import (
	"context"
	"errors"
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
openMarks(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), KEYS[2])
read(3, #ARGV, 1)
for i = 3, #ARGV do assert(not put(i, '\1\2')) end
closeMarks()
return level + split`)

// marked is a set that a test fills.
type marked struct {
	marks.Set
	prefix  string
	windows string // the handler's hash
	t       testing.TB
	client  *redis.Client
	buckets int
}

func newMarked(t testing.TB) *marked {
	client := redis.NewClient(&redis.Options{Addr: servers.Require(t, servers.Redis).Hosts[0]})
	t.Cleanup(func() { _ = client.Close() })
	prefix := fmt.Sprintf("hapax:test:%d", dedup.NextToken())
	return (&marked{prefix: prefix, windows: prefix + ":windows", t: t, client: client}).under(7 * 24 * time.Hour)
}

// under is the set of another window, of the same handler.
func (m *marked) under(window time.Duration) *marked {
	other := *m
	other.Set, other.buckets = marks.NewSet(m.prefix, window), 0
	m.t.Cleanup(func() {
		keys := []string{other.Key, other.windows}
		for bucket := range other.buckets {
			keys = append(keys, fmt.Sprintf("%s:%d", other.Key, bucket))
		}
		require.NoError(m.t, other.client.Unlink(context.Background(), keys...).Err())
	})
	return &other
}

// put marks new IDs, in calls of 500, at a time from now.
func (m *marked) put(from, to int, later time.Duration) {
	for ; from < to; from += 500 {
		args := []any{m.SliceLength(), later.Milliseconds()}
		for i := range 500 {
			id := dedup.NewID(dedup.Scope{}, fmt.Sprint(from+i))
			args = append(args, id[:])
		}
		var err error
		m.buckets, err = putAll.Run(m.t.Context(), m.client, []string{m.Key, m.windows}, args...).Int()
		require.NoError(m.t, err)
	}
}

var putAgain = redis.NewScript(marks.Lua + `
openMarks(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), KEYS[2])
read(3, #ARGV, 1)
local known = 0
for i = 3, #ARGV do known = known + (put(i, '\1\2') == '\1\2' and 1 or 0) end
closeMarks()
return known`)

var findAll = redis.NewScript(marks.Lua + `
openMarks(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), KEYS[2])
read(3, #ARGV, 1)
local found = 0
for i = 3, #ARGV do found = found + (find(i) and 1 or 0) end
return found`)

// find counts the IDs that are marked, at a time from now.
func (m *marked) find(from, to int, later time.Duration) int {
	return m.count(findAll, from, to, later)
}

// again marks IDs, and counts those that were marked before.
func (m *marked) again(from, to int, later time.Duration) int {
	return m.count(putAgain, from, to, later)
}

func (m *marked) count(script *redis.Script, from, to int, later time.Duration) int {
	args := []any{m.SliceLength(), later.Milliseconds()}
	for ; from < to; from++ {
		id := dedup.NewID(dedup.Scope{}, fmt.Sprint(from))
		args = append(args, id[:])
	}
	found, err := script.Run(m.t.Context(), m.client, []string{m.Key, m.windows}, args...).Int()
	require.NoError(m.t, err)
	return found
}

// bytes is what the buckets take in memory, by the server's own account.
func (m *marked) bytes() (bytes int64) {
	pipe := m.client.Pipeline()
	for bucket := range m.buckets {
		pipe.MemoryUsage(m.t.Context(), fmt.Sprintf("%s:%d", m.Key, bucket), 0)
	}
	results, err := pipe.Exec(m.t.Context())
	if !errors.Is(err, redis.Nil) { // a bucket that is empty
		require.NoError(m.t, err)
	}
	for _, result := range results {
		bytes += result.(*redis.IntCmd).Val()
	}
	return bytes
}

// What an ID takes in memory. HAPAX_SOAK=1 marks a million.
func TestMemory(t *testing.T) {
	m, total := newMarked(t), 100_000
	if os.Getenv("HAPAX_SOAK") == "1" {
		total = 1_000_000
	}
	m.put(0, total, 0)
	directory, err := m.client.Get(t.Context(), m.Key).Result()
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(total), strings.Fields(directory)[4], directory)
	for from := 0; from < total; from += total / 10 { // wherever the divisions have put them
		require.Equal(t, 500, m.find(from, from+500, 0))
	}
	require.Zero(t, m.find(total, total+500, 0))
	each := float64(m.bytes()) / float64(total)
	t.Logf("%d IDs in %d buckets: %.1f bytes an ID", total, m.buckets, each)
	require.Less(t, each, 24.0)
}

// At a steady rate of large calls the cursor comes to a bucket too rarely to keep it
// free of dead marks; new ones are written over them.
func TestMemoryInTheLongRun(t *testing.T) {
	m := newMarked(t)
	const perSlice = 10_000
	most := 0.0
	for slice := range 60 {
		m.put(slice*perSlice, (slice+1)*perSlice, time.Duration(slice*int(m.SliceLength()))*time.Millisecond)
		if slice > marks.Slices {
			most = max(most, float64(m.bytes())/float64((marks.Slices+1)*perSlice))
		}
	}
	t.Logf("at most %.1f bytes for each living ID", most)
	require.Less(t, most, 34.0)
}

// A slice of time has a number modulo 255. A mark that died long ago does not come to
// life when its number comes round again.
func TestDeadMarksStayDead(t *testing.T) {
	for _, leaps := range []int{1, 5, 50} { // the calls on the way are rare, or there are none
		m := newMarked(t)
		m.put(0, 500, 0)
		lives := func(slices int) int {
			return m.find(7, 8, time.Duration(slices*int(m.SliceLength()))*time.Millisecond)
		}
		require.Equal(t, 1, lives(0))
		require.Equal(t, 1, lives(marks.Slices))
		require.Zero(t, lives(marks.Slices+1))
		for leap := 1; leap <= leaps; leap++ {
			m.put(leap*500, leap*500+500, time.Duration(leap*250/leaps*int(m.SliceLength()))*time.Millisecond)
		}
		for slices := 250; slices < 265; slices++ {
			require.Zero(t, lives(slices), "after %d leaps, %d slices", leaps, slices)
		}
	}
}
