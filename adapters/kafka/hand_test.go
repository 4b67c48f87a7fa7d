package kafka

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The flow gives a message up while it is on its way to the reader: its partition must
// not wait for it.
func TestGivenUpOnTheWayToTheReader(t *testing.T) {
	p := &partition{ctx: t.Context(), changed: make(chan struct{}, 1), leaving: make(chan struct{})}
	d := &delivery{partition: p, record: &kgo.Record{}}
	c := &consumer{out: make(chan *message.Message, 1)}
	d.Abandoned()
	require.False(t, c.hand(d, message.NewMessage("", nil)))
	require.Zero(t, p.busy)
	require.Empty(t, c.out)
}
