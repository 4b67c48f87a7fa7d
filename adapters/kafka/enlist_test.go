package kafka

import (
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
)

// Batches have copies of each other's events, in another order: one after the other gets
// them, and none waits for ever.
func TestBatchesOfEachOthersEvents(t *testing.T) {
	c := bareConsumer(t, 1)
	var entries []*dedup.Entry
	for i := range 100 {
		entries = append(entries, bareEntry(strconv.Itoa(i)))
	}
	reversed := slices.Clone(entries)
	slices.Reverse(reversed)
	half := slices.Concat(entries[50:], entries[:50])
	for round := range 300 {
		p := c.barePartition(0)
		batches := make([]*item, 3)
		for i, order := range [][]*dedup.Entry{entries, reversed, half} {
			batches[i] = &item{entries: order, done: make(chan struct{})}
			for at := range order {
				batches[i].deliveries = append(batches[i].deliveries, p.bareDelivery(int64(100*i+at)))
			}
		}
		var ended sync.WaitGroup
		for _, it := range batches {
			ended.Go(func() {
				if err := it.enlist(); err == nil {
					it.finish(errAborted)
				}
			})
		}
		over := make(chan struct{})
		go func() { ended.Wait(); close(over) }()
		select {
		case <-over:
		case <-time.After(20 * time.Second):
			require.FailNow(t, "batches wait for each other", "round %d", round)
		}
	}
}
