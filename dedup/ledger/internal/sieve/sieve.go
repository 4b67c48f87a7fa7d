package sieve

import (
	"math/bits"
	"slices"

	"github.com/hapax-go/hapax/dedup"
)

// Sieve holds the filters of sets, which have numbers other than 0. The zero Sieve
// is empty. It is not safe for concurrent changes.
type Sieve struct{ groups []*group }

type group struct {
	words []uint64  // a power of two
	sets  [64]int64 // 0: free
	used  uint64
}

// Add puts a set's filter in a free place.
func (s *Sieve) Add(number int64, f Filter) {
	i := slices.IndexFunc(s.groups, func(g *group) bool { return g.used != ^uint64(0) })
	if i < 0 {
		i = len(s.groups)
		s.groups = append(s.groups, &group{})
	}
	g := s.groups[i]
	// A filter of a smaller size repeats in a larger one: an ID's place there is
	// the same modulo the smaller size.
	size := len(f) * 8
	if old := g.words; len(old) < size {
		g.words = make([]uint64, size)
		for i := range g.words {
			if len(old) > 0 {
				g.words[i] = old[i&(len(old)-1)]
			}
		}
	}
	place := bits.TrailingZeros64(^g.used)
	g.used |= 1 << place
	g.sets[place] = number
	for word := range g.words {
		if at := word & (size - 1); f[at/8]>>(at%8)&1 == 1 {
			g.words[word] |= 1 << place
		}
	}
}

// Keep drops the filters of sets that are not in the list, and returns the sets
// whose filters it lacks.
func (s *Sieve) Keep(list []int64) (missing []int64) {
	lives := make(map[int64]bool, len(list))
	for _, number := range list {
		lives[number] = true
	}
	for _, g := range s.groups {
		var dropped uint64
		for place, number := range g.sets {
			if number != 0 && !lives[number] {
				dropped |= 1 << place
				g.sets[place] = 0
			}
			delete(lives, number)
		}
		if dropped == 0 {
			continue
		}
		if g.used &^= dropped; g.used == 0 {
			g.words = nil
		}
		for word := range g.words {
			g.words[word] &^= dropped
		}
	}
	for _, number := range list {
		if lives[number] {
			missing = append(missing, number)
		}
	}
	return missing
}

// Candidates calls found for every set that may have the ID.
func (s *Sieve) Candidates(id dedup.ID, found func(number int64)) {
	places := probes(id)
	for _, g := range s.groups {
		if len(g.words) == 0 {
			continue
		}
		size, match := uint64(len(g.words)-1), g.used
		for _, place := range places {
			match &= g.words[place&size]
		}
		for ; match != 0; match &= match - 1 {
			found(g.sets[bits.TrailingZeros64(match)])
		}
	}
}
