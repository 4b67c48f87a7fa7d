package inbox_test

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/inbox"
)

// A batch of which one event was processed elsewhere meanwhile marks none of its others,
// though the transaction that it shares commits: they come again.
func TestABatchThatLosesOneEventMarksNone(t *testing.T) {
	eachServer(t, func(r *rig) {
		p := r.process(configured(func(c *inbox.Config) { c.Connections = 1 }))
		held, free := make(chan bool), make(chan bool)
		holder := p.handler(func(ctx context.Context, id string) error {
			err := r.effect(ctx, id)
			close(held)
			<-free
			return err
		})
		peer, batch, elsewhere := p.handler(r.effect), p.handler(nil), r.process().handler(r.effect)
		scope := dedup.Scope{Service: "shop", Handler: "charge"}
		var events []*dedup.Event
		for _, id := range []string{"others", "lost"} {
			msg := message.NewMessage(id, []byte("payload"))
			events = append(events, &dedup.Event{
				Entry:   dedup.Entry{ID: dedup.NewID(scope, id), Digest: dedup.NewDigest(msg.Payload), EventID: id, Scope: scope},
				Message: msg,
			})
		}
		claim, err := batch.strategy.Claim(t.Context(), events)
		require.NoError(r.t, err)
		require.NoError(r.t, elsewhere.deliver("lost", "payload"))

		first, second, third := make(chan error, 1), make(chan error, 1), make(chan error, 1)
		go func() { first <- holder.deliver("holder", "payload") }()
		<-held
		go func() { second <- claim.Commit(t.Context(), nil) }()
		go func() { third <- peer.deliver("peer", "payload") }()
		require.Eventually(r.t, func() bool { return p.inbox.Queued() == 2 }, 10*time.Second, time.Millisecond)
		close(free)
		require.NoError(r.t, <-first)
		require.ErrorIs(r.t, <-second, dedup.ErrLostRace)
		require.NoError(r.t, <-third)
		r.exact(3)
		require.NoError(r.t, elsewhere.deliver("others", "payload"))
		r.exact(4)
	})
}
