package sieve_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/internal/sieve"
)

func id(set, i int64) dedup.ID {
	return dedup.NewID(dedup.Scope{Service: fmt.Sprint(set)}, fmt.Sprint(i))
}

func add(s *sieve.Sieve, number, size int64) {
	bits := sieve.NewFilter(size)
	for i := range size {
		bits.Add(id(number, i))
	}
	s.Add(number, bits)
}

func finds(t *testing.T, s *sieve.Sieve, number, size int64) (found int) {
	for i := range size {
		s.Candidates(id(number, i), func(set int64) {
			require.NotZero(t, set, "a place that is free")
			if set == number {
				found++
			}
		})
	}
	return found
}

// Every ID that was added is let through, at whatever size its group has grown to,
// and few others.
func TestNoIDIsMissed(t *testing.T) {
	var s sieve.Sieve
	sizes := []int64{1, 30, 5000, 70, 100_000}
	for range 30 {
		sizes = append(sizes, 200, 3) // beyond one group
	}
	for i, size := range sizes {
		add(&s, int64(i+1), size)
	}
	for i, size := range sizes {
		require.EqualValues(t, size, finds(t, &s, int64(i+1), size), "of the set of %d", size)
	}
	others := 0
	for i := range int64(10_000) {
		s.Candidates(id(-1, i), func(int64) { others++ })
	}
	require.Less(t, others, 700, "of 10,000 other IDs, each in 65 sets")
}

func TestKeepDropsAndNamesWhatIsMissing(t *testing.T) {
	var s sieve.Sieve
	for number := range int64(5) {
		add(&s, number+1, 100)
	}
	require.Equal(t, []int64{9}, s.Keep([]int64{2, 4, 9}))
	require.Equal(t, []int{0, 100, 0, 100, 0}, []int{finds(t, &s, 1, 100), finds(t, &s, 2, 100), finds(t, &s, 3, 100), finds(t, &s, 4, 100), finds(t, &s, 5, 100)})
	add(&s, 9, 1000)
	require.Empty(t, s.Keep([]int64{2, 4, 9}))
	require.Equal(t, 1000, finds(t, &s, 9, 1000))
	require.Equal(t, []int64{1, 5}, s.Keep([]int64{1, 5}), "they were dropped")
	require.Zero(t, finds(t, &s, 9, 1000))
}

func TestValid(t *testing.T) {
	for size, valid := range map[int]bool{0: false, 4: false, 8: true, 9: false, 64: true, 96: false} {
		require.Equal(t, valid, make(sieve.Filter, size).Valid(), size)
	}
}
