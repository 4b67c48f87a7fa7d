package memory

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hapax-go/hapax/dedup"
)

// TestMarksAgreeWithAMap compares the index to a Go map through growth, removal
// from the middle of long probe sequences, replacement and wrapping numbers.
func TestMarksAgreeWithAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.SampledFrom([]uint32{0, 1<<32 - 200}).Draw(t, "start")
		m := marks{base: start, next: start, oldest: start}
		var log []mark
		made := 0
		live := map[dedup.ID]mark{}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				for range rapid.IntRange(1, 60).Draw(t, "count") {
					id := dedup.ID{15: rapid.Byte().Draw(t, "id")}
					made++
					added := mark{id: id, until: int64(made)}
					_, found := live[id]
					require.Equal(t, !found, m.add(added))
					live[id] = added
					log = append(log, added)
				}
			},
			"pop": func(t *rapid.T) {
				for range rapid.IntRange(1, 90).Draw(t, "count") {
					head := m.head()
					if len(log) == 0 {
						require.Nil(t, head)
						return
					}
					require.Equal(t, log[0], *head)
					current := live[log[0].id] == log[0]
					require.Equal(t, current, m.pop())
					if current {
						delete(live, log[0].id)
					}
					log = log[1:]
				}
			},
			"": func(t *rapid.T) {
				require.Equal(t, len(live), m.used)
				for i := range 256 {
					id := dedup.ID{15: byte(i)}
					_, got := m.find(&id)
					want, found := live[id]
					require.Equal(t, found, got != nil)
					if found {
						require.Equal(t, want, *got)
					}
				}
			},
		})
	})
}
