package bench

import "math/rand/v2"

// order is the order of a round: a permutation of n variants drawn from the seed,
// turned on by one with every round. Over n rounds each variant stands in every
// place once, so that none is always the one that runs first, or last.
func order(seed uint64, n, round int) []int {
	drawn := rand.New(rand.NewPCG(seed, uint64(n))).Perm(n)
	places := make([]int, n)
	for i := range places {
		places[i] = drawn[(i+round)%n]
	}
	return places
}
