package bench

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMedian(t *testing.T) {
	require.Zero(t, median(nil))
	require.Equal(t, 7.0, median([]float64{7}))
	require.Equal(t, 2.0, median([]float64{9, 1, 2}))
	require.Equal(t, 2.5, median([]float64{4, 1, 3, 2}))
	values := []float64{3, 1, 2}
	median(values)
	require.Equal(t, []float64{3, 1, 2}, values, "the order of rounds is not touched")
}

func TestQuantileIsAValueThatOccurred(t *testing.T) {
	require.Zero(t, quantile([]int(nil), 0.99))
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	require.Equal(t, 50, quantile(hundred, 0.5))
	require.Equal(t, 99, quantile(hundred, 0.99))
	require.Equal(t, 1, quantile(hundred, 0))
	require.Equal(t, 3, quantile([]int{1, 2, 3}, 0.99), "the slowest of few")
}

func TestOrderGivesEveryVariantEveryPlace(t *testing.T) {
	const n = 4
	places := map[[2]int]bool{} // variant, place
	for round := range n {
		turn := order(1, n, round)
		require.ElementsMatch(t, []int{0, 1, 2, 3}, turn, "round %d runs each once", round)
		for place, variant := range turn {
			places[[2]int{variant, place}] = true
		}
	}
	require.Len(t, places, n*n)
	require.Equal(t, order(7, n, 2), order(7, n, 2), "the seed decides")
	require.True(t, slices.ContainsFunc([]uint64{2, 3, 4, 5}, func(seed uint64) bool {
		return !slices.Equal(order(1, n, 0), order(seed, n, 0))
	}), "other seeds give other orders")
}

func TestACopyHasTheIDOfItsMessage(t *testing.T) {
	load := Load{Round: 3, Messages: 10, Copies: 2}
	require.Equal(t, 12, load.Deliveries())
	require.Equal(t, load.id(1), load.id(11))
	require.NotEqual(t, load.id(1), load.id(2))
	require.NotEqual(t, load.id(1), Load{Round: 4, Messages: 10}.id(1))
	require.Equal(t, 7, indexOf(load.id(7)))
}

func TestLatencyStartsWhenTheMessageWasDue(t *testing.T) {
	p := newPace(1000, 10) // one a millisecond
	p.start = time.Now().Add(-time.Second)
	require.Equal(t, p.start.Add(5*time.Millisecond), p.due(5))
	require.Equal(t, 10, p.ready(10), "all that are due, and no more than there are")
	p.settled(5)
	p50, p99 := p.quantiles()
	require.Equal(t, p50, p99)
	require.GreaterOrEqual(t, p50, 995*time.Millisecond, "a publisher that is late does not hide it")
}
