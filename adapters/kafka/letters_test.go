package kafka

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What is removed out of order survives the commit's metadata; what is removed from
// the front moves the offset.
func TestRemovedLetters(t *testing.T) {
	state := func() *letterState {
		return &letterState{first: 5, end: 20, gone: map[int64]bool{}, kept: map[int64]bool{}}
	}
	s := state()
	for _, offset := range []int64{7, 8, 9, 12} {
		s.add(offset)
	}
	s.kept[6] = true
	s.settle()
	require.EqualValues(t, 5, s.first, "the partition was not read to its end: 5 may come")
	require.Equal(t, "7-9,12", s.ranges())
	s.complete = true
	s.settle()
	require.EqualValues(t, 6, s.first, "5 was a marker")

	again := state()
	again.first = s.first
	require.NoError(t, parseRanges(s.ranges(), again.gone))
	for offset, gone := range map[int64]bool{5: true, 6: false, 7: true, 9: true, 10: false, 12: true, 13: false} {
		require.Equal(t, gone, again.has(offset), offset)
	}
	again.kept, again.complete = map[int64]bool{13: true}, true
	again.add(6)
	again.settle()
	require.EqualValues(t, 13, again.first)
	require.Empty(t, again.ranges())
	again.kept = map[int64]bool{}
	again.settle()
	require.EqualValues(t, 20, again.first, "nothing is left")

	require.Error(t, parseRanges("somebody else's", map[int64]bool{}))
}
