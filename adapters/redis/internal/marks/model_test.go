package marks_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/redis/internal/marks"
	"github.com/hapax-go/hapax/dedup"
)

// Looks IDs up, or marks them and undoes some of it, as a commit does whose outputs are
// refused. Returns for each ID: 0 it was not marked, 1 it was, 2 undone.
var step = redis.NewScript(marks.Lua + `
openMarks(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), KEYS[2])
local undone, results = ARGV[3], {}
read(4, #ARGV, 1)
for i = 4, #ARGV do
  local tag, undo = nil, byte(undone, i - 3)
  if undo then tag = put(i, '\1\2') else tag = find(i) end
  results[i - 3] = tag and (tag == '\1\2' and 1 or -1) or 0
  if undo == 49 and not tag then
    take(i)
    results[i - 3] = 2
  end
end
if undone ~= '' then closeMarks() end
return results`)

// Whatever happens to a bucket and to the set, an ID is marked once for as long as its mark
// lives, and a look finds what is marked and nothing else.
func TestMarksAgainstAModel(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			m, slice, bulk := newMarked(t), 0, 0
			now := func() time.Duration { return time.Duration(slice) * time.Duration(m.SliceLength()) * time.Millisecond }
			var ids []dedup.ID // in few buckets, in which something happens all the time
			for i := range 400 {
				id := dedup.NewID(dedup.Scope{}, fmt.Sprint("crowded", seed, i))
				binary.LittleEndian.PutUint32(id[:], uint32(random.IntN(8))<<8|uint32(random.IntN(4)))
				ids = append(ids, id)
			}
			marked, seen := map[dedup.ID]int{}, map[int64]int{} // in which slice; outcomes
			for range 600 {
				switch random.IntN(10) {
				case 0: // the set grows: buckets are divided, and tidied on the way
					m.put(bulk, bulk+2_500, now())
					bulk += 2_500
				case 1:
					slice += random.IntN(3)
				default:
					undone := make([]byte, 0, 20)
					if random.IntN(2) == 0 { // else it is a look
						undone = undone[:20]
					}
					args := []any{m.SliceLength(), now().Milliseconds(), undone}
					var chosen []dedup.ID
					for i := range 20 {
						id := ids[random.IntN(len(ids))]
						chosen = append(chosen, id)
						args = append(args, id[:])
						if len(undone) > 0 {
							undone[i] = byte('0' + random.IntN(5)/4)
						}
					}
					results, err := step.Run(t.Context(), m.client, []string{m.Key, m.windows}, args...).Int64Slice()
					require.NoError(t, err)
					for i, id := range chosen {
						want := int64(0)
						at, known := marked[id]
						switch {
						case known && slice-at <= marks.Slices:
							want = 1
						case len(undone) > 0 && undone[i] == '1':
							want = 2
							delete(marked, id)
						case len(undone) > 0:
							marked[id] = slice
						}
						require.Equal(t, want, results[i], "%x", id)
						seen[want]++
					}
				}
			}
			for want := range int64(3) {
				require.Greater(t, seen[want], 100)
			}
		})
	}
}
