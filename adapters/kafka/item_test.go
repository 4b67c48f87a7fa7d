package kafka

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A copy waits for another one to commit, whose ID then finds no place in memory: it is
// processed all the same, and nothing more may be decided.
func TestCopyWhoseIDFoundNoPlace(t *testing.T) {
	p := bareConsumer(t, 1).barePartition(0)
	entry := bareEntry("event")
	first, second := bareItem(entry, p.bareDelivery(0)), bareItem(entry, p.bareDelivery(1))
	require.NoError(t, first.enlist())
	enlisted := make(chan error, 1)
	go func() { enlisted <- second.enlist() }()
	(&transaction{items: []*item{first}, started: time.Now()}).remember()
	first.finish(nil)
	require.ErrorIs(t, <-enlisted, errLogBroken)
}
