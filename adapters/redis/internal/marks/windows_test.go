package marks_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
)

const day = 24 * time.Hour

// A handler whose window was changed knows what it marked under the former one; while
// instances are replaced, both kinds know each other's marks.
func TestMarksOfAnotherWindow(t *testing.T) {
	for _, window := range []time.Duration{2 * day, 30 * day, time.Millisecond * 12345} {
		week := newMarked(t)
		other := week.under(window)
		week.put(0, 500, 0)
		require.Equal(t, 500, other.find(0, 500, 0))
		require.Equal(t, 500, other.again(0, 500, 0))
		require.Zero(t, other.find(500, 1000, 0))

		other.put(500, 1000, 0)
		require.Equal(t, 1000, week.find(0, 1000, 0))
		require.Equal(t, 1000, week.again(0, 1000, 0))
		require.Equal(t, 1000, other.again(0, 1000, 0))

		stranger := *other // has marks of its own only
		stranger.windows += ":stranger"
		require.Equal(t, 500, stranger.find(0, 1000, 0))
	}
}

// What was marked under a former window lasts as long as that window, and is removed
// then, unless another handler still uses its set.
func TestAFormerWindowGoes(t *testing.T) {
	for name, shared := range map[string]bool{"alone": false, "shared": true} {
		t.Run(name, func(t *testing.T) {
			week := newMarked(t)
			month := week.under(30 * day)
			week.put(0, 40_000, 0) // more buckets than one call removes
			month.put(40_000, 40_500, 0)
			require.Equal(t, 500, month.find(0, 500, 7*day))
			require.Zero(t, month.find(0, 500, 9*day))
			require.Equal(t, 500, month.find(40_000, 40_500, 9*day))

			neighbour := *week
			neighbour.windows += ":neighbour"
			if shared {
				neighbour.put(50_000, 50_500, 9*day)
			}
			month.put(40_500, 42_500, 9*day)
			known, err := week.client.HKeys(t.Context(), week.windows).Result()
			require.NoError(t, err)
			require.Equal(t, []string{"2592000000"}, known)
			keys, err := week.client.Keys(t.Context(), week.Key+"*").Result()
			require.NoError(t, err)
			require.Equal(t, shared, len(keys) > 0)
			if shared {
				require.Equal(t, 500, neighbour.find(50_000, 50_500, 9*day))
			}
			require.Equal(t, 2500, month.find(40_000, 42_500, 9*day))
		})
	}
}

// A server that may evict keys (redis.allow_eviction) can evict the directory: what was
// marked may be forgotten, and what comes is marked all the same.
func TestALostDirectory(t *testing.T) {
	week := newMarked(t)
	week.put(0, 5_000, 0)
	require.NoError(t, week.client.Del(t.Context(), week.Key).Err())
	for i := 5_000; i < 5_010; i++ { // few, so that more dead ones are removed than there are
		id := dedup.NewID(dedup.Scope{}, fmt.Sprint(i))
		require.NoError(t, putAll.Run(t.Context(), week.client, []string{week.Key, week.windows}, week.SliceLength(), (9*day).Milliseconds(), id[:]).Err())
	}
	require.Equal(t, 10, week.find(5_000, 5_010, 9*day))
}
