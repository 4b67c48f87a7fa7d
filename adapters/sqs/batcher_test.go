package sqs

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// While one request is under way the next batch gathers; full ones go beside it.
func TestBatcherCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var sizes []int
		b := batcher[int]{parallel: 2, run: func(batch []int) {
			mu.Lock()
			sizes = append(sizes, len(batch))
			mu.Unlock()
			time.Sleep(time.Second)
		}}
		began := time.Now()
		b.add(1)
		for i := range 9 {
			b.add(i)
		}
		synctest.Wait()
		require.Equal(t, []int{1}, sizes, "a lone item leaves at once, and the others gather")
		b.add(9)
		synctest.Wait()
		require.Equal(t, []int{1, 10}, sizes, "a full batch leaves beside it")
		b.add(slices.Repeat([]int{7}, 25)...)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		require.Equal(t, []int{1, 10, 10, 10, 5}, sizes)
		require.Equal(t, 4*time.Second, time.Since(began))
	})
}

// What comes within a moment leaves together, and a full batch does not wait for it.
func TestBatcherLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sizes := make(chan int, 10)
		b := batcher[int]{parallel: 1, linger: 2 * time.Millisecond, run: func(batch []int) { sizes <- len(batch) }}
		b.add(1)
		time.Sleep(time.Millisecond)
		b.add(2, 3)
		synctest.Wait()
		require.Empty(t, sizes)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		require.Equal(t, 3, <-sizes)
		b.add(slices.Repeat([]int{7}, 12)...)
		synctest.Wait()
		require.Equal(t, 10, <-sizes)
		require.Empty(t, sizes)
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, 2, <-sizes)
	})
}

func TestBatcherBoundsWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var batches [][]int
		b := batcher[int]{parallel: 1, weigh: func(n int) int { return n }, capacity: 100, run: func(batch []int) {
			batches = append(batches, batch)
			time.Sleep(time.Second)
		}}
		b.add(1)
		b.add(60, 40, 1, 500, 99, 1)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, [][]int{{1}, {60, 40}, {1}, {500}, {99, 1}}, batches)
	})
}

// Items of one name go one after the other, in their order, and hold up no others.
func TestBatcherKeepsNamesApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		sent := map[byte]string{}
		under := map[byte]bool{}
		b := batcher[string]{parallel: 4, exclusive: func(s string) string { return s[:1] }, run: func(batch []string) {
			mu.Lock()
			for _, s := range batch {
				require.False(t, under[s[0]], "%s twice at a time", s[:1])
				under[s[0]] = true
				sent[s[0]] += s[1:]
			}
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			for _, s := range batch {
				under[s[0]] = false
			}
			mu.Unlock()
		}}
		for _, digit := range "0123456789" {
			for _, name := range "abc" {
				b.add(string(name) + string(digit))
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, name := range []byte("abc") {
			require.Equal(t, "0123456789", sent[name], string(name))
		}
	})
}
