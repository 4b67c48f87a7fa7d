package marks_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/redis/internal/marks"
	"github.com/hapax-go/hapax/dedup"
)

// Marks IDs, and undoes some of it, as a commit does whose outputs are refused. Returns for
// each ID: 0 marked, 1 it was before, 2 undone.
var putSome = redis.NewScript(marks.Lua + `
openMarks(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), KEYS[2])
local undone, results = ARGV[3], {}
read(4, #ARGV)
for i = 4, #ARGV do
  results[i - 3] = 0
  if put(i, '\1\2') then
    results[i - 3] = 1
  elseif byte(undone, i - 3) == 49 then
    take(i)
    results[i - 3] = 2
  end
end
closeMarks()
return results`)

// Many look, and mark much later what they found free: whatever has happened between, to
// the ID, its bucket and the set, an ID is marked once as long as its mark lives, and a
// look finds what is marked and nothing else.
func TestPlacesOfThePast(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			m, slice, placed := newMarked(t), 0, 0
			now := func() time.Duration { return time.Duration(slice) * time.Duration(m.SliceLength()) * time.Millisecond }
			var ids []dedup.ID // in few buckets, in which something happens all the time
			for i := range 400 {
				id := dedup.NewID(dedup.Scope{}, fmt.Sprint("crowded", seed, i))
				binary.LittleEndian.PutUint32(id[:], uint32(random.IntN(8))<<8|uint32(random.IntN(4)))
				ids = append(ids, id)
			}
			marked := map[dedup.ID]int{} // in which slice
			lives := func(id dedup.ID) bool {
				at, known := marked[id]
				return known && slice-at <= marks.Slices
			}
			type look struct {
				ids    []dedup.ID
				places []marks.Place
			}
			var looks []look
			bulk := 0
			for range 600 {
				switch random.IntN(10) {
				case 0: // the set grows: buckets are divided, and tidied on the way
					m.put(bulk, bulk+500, now())
					bulk += 500
				case 1:
					slice += random.IntN(4)
				case 2, 3, 4, 5:
					l := look{}
					for range 1 + random.IntN(20) {
						l.ids = append(l.ids, ids[random.IntN(len(ids))])
					}
					m.reader.SetSkew(now())
					found, err := m.reader.Look(t.Context(), m.client, l.ids, nil)
					require.NoError(t, err)
					for i, id := range l.ids {
						require.Equal(t, lives(id), found[i].Marked)
						l.places = append(l.places, found[i].Place)
					}
					looks = append(looks, l)
				default:
					if len(looks) == 0 {
						continue
					}
					at := random.IntN(len(looks))
					l := looks[at]
					if random.IntN(3) > 0 { // else it is tried again, as when an answer was lost
						looks = slices.Delete(looks, at, at+1)
					}
					undone := make([]byte, len(l.ids))
					args := []any{m.SliceLength(), now().Milliseconds(), undone}
					for i, id := range l.ids {
						undone[i] = byte('0' + random.IntN(5)/4)
						arg := l.places[i].AppendTo(append(id[:], 1, 2))
						placed += min(1, len(arg)-18)
						args = append(args, arg)
					}
					results, err := putSome.Run(t.Context(), m.client, []string{m.Key, m.windows}, args...).Int64Slice()
					require.NoError(t, err)
					for i, id := range l.ids {
						want := int64(0)
						switch {
						case lives(id):
							want = 1
						case undone[i] == '1':
							want = 2
							delete(marked, id)
						default:
							marked[id] = slice
						}
						require.Equal(t, want, results[i], "%x", id)
					}
				}
			}
			require.Greater(t, placed, 500)
		})
	}
}

// A set that nobody has used, one that has lost its directory, and one with marks of another
// window.
func TestPeekElsewhere(t *testing.T) {
	m := newMarked(t)
	require.Len(t, m.peek(0, 100), 100)
	m.put(0, 500, 0)
	for _, found := range m.look(0, 500) {
		require.True(t, found.Marked)
		require.Equal(t, marks.Tag{1, 2}, found.Tag)
	}
	other := m.under(24 * time.Hour)
	id := []dedup.ID{dedup.NewID(dedup.Scope{}, "0")}
	_, err := other.reader.Look(t.Context(), m.client, id, nil)
	require.ErrorIs(t, err, marks.ErrCannotPeek)

	m.reader.SetSkew(101 * time.Duration(m.SliceLength()) * time.Millisecond)
	_, err = m.reader.Look(t.Context(), m.client, id, nil)
	require.ErrorIs(t, err, marks.ErrCannotPeek)
	m.reader.SetSkew(0)

	require.NoError(t, m.client.Del(t.Context(), m.Key).Err())
	_, err = m.reader.Look(t.Context(), m.client, id, nil)
	require.NoError(t, err)
}
