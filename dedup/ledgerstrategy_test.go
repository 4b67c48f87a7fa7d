package dedup_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
)

// A goroutine that a handler leaves behind finds its context ended like any other: both
// Done and Err say so, whether somebody had asked for Done before or not, and whether the
// handler succeeded or not.
func TestTheHandlersContextEndsWithTheClaim(t *testing.T) {
	for name, test := range map[string]struct {
		asked bool
		fails error
	}{
		"asked before": {asked: true}, "asked behind": {},
		"failed, asked before": {asked: true, fails: errInjected}, "failed, asked behind": {fails: errInjected},
	} {
		t.Run(name, func(t *testing.T) {
			strategy := strategyOn(memory.New(memory.Config{}))
			defer strategy.Close()
			middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
			require.NoError(t, err)
			var kept context.Context
			_, err = middleware.Wrap(func(msg *message.Message) ([]*message.Message, error) {
				if kept = msg.Context(); test.asked {
					require.NotNil(t, kept.Done())
				}
				require.NoError(t, kept.Err())
				return nil, test.fails
			})(order("1"))
			require.ErrorIs(t, err, test.fails)
			require.ErrorIs(t, kept.Err(), context.Canceled)
			select {
			case <-kept.Done():
			default:
				require.Fail(t, "Done is not closed")
			}
			require.NotNil(t, dedup.EventFrom(kept))
		})
	}
}

// The delivery's own cancellation and values reach the handler.
func TestTheHandlersContextFollowsTheDelivery(t *testing.T) {
	type key struct{}
	strategy := strategyOn(memory.New(memory.Config{}))
	defer strategy.Close()
	_, claim := claimOne(t, strategy, "1")
	delivery, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	ctx := claim.Context(delivery)
	require.Equal(t, "value", ctx.Value(key{}))
	done := ctx.Done()
	require.Equal(t, "value", ctx.Value(key{}))
	cancel()
	<-done
	require.ErrorIs(t, ctx.Err(), context.Canceled)
	claim.Release(t.Context())
}

// The call that claimed may have been applied although its answer was lost, because the
// delivery ended, say: its leases are handed back at once.
func TestAClaimOfUnknownOutcomeIsReleased(t *testing.T) {
	store := memory.New(memory.Config{})
	delivery, over := context.WithCancel(t.Context())
	strategy := strategyOn(obedient{broken{Ledger: store, claim: func(entries []*dedup.Entry) error {
		require.NoError(t, store.Claim(t.Context(), lease, entries))
		over()
		return errInjected
	}}})
	defer strategy.Close()
	_, err := strategy.Claim(delivery, []*dedup.Event{{Entry: dedup.Entry{ID: dedup.NewID(scope, "1")}}})
	require.ErrorIs(t, err, errInjected)
	other := strategyOn(store)
	defer other.Close()
	event, _ := claimOne(t, other, "1")
	require.Equal(t, dedup.Fresh, event.Verdict)
}

// obedient refuses what is asked in a context that is over, as a store behind a
// connection does; and what might wait for ever for one that does not answer.
type obedient struct{ dedup.Ledger }

func inTime(ctx context.Context) error {
	if deadline, bounded := ctx.Deadline(); ctx.Done() == nil || bounded && time.Until(deadline) > time.Minute {
		return errors.New("nothing ends this call")
	}
	return ctx.Err()
}

func (o obedient) Complete(ctx context.Context, entries []*dedup.Entry) error {
	if err := inTime(ctx); err != nil {
		return err
	}
	return o.Ledger.Complete(ctx, entries)
}

func (o obedient) Release(ctx context.Context, entries []*dedup.Entry) error {
	if err := inTime(ctx); err != nil {
		return err
	}
	return o.Ledger.Release(ctx, entries)
}

// hangup is a publisher whose broker cuts the connection just after it has stored
// the messages.
type hangup struct {
	publications
	cut context.CancelFunc
}

func (h *hangup) Publish(topic string, messages ...*message.Message) error {
	defer h.cut()
	return h.publications.Publish(topic, messages...)
}

// Outputs that are out are marked even when the delivery ended meanwhile, or the
// next one would send them again.
func TestADeliveryThatEndsBehindThePublishIsMarked(t *testing.T) {
	ctx, cut := context.WithCancel(t.Context())
	publisher := &hangup{cut: cut}
	strategy := dedup.NewLedgerStrategy(obedient{memory.New(memory.Config{})}, publisher, quiet)
	defer func() { require.NoError(t, strategy.Close()) }()
	_, claim := claimOne(t, strategy, "a")
	require.NoError(t, claim.Commit(claim.Context(ctx), []dedup.Output{{Topic: "out", Message: order("b")}}))

	again := &dedup.Event{Entry: dedup.Entry{ID: dedup.NewID(scope, "a")}}
	_, err := strategy.Claim(t.Context(), []*dedup.Event{again})
	require.NoError(t, err)
	require.Equal(t, dedup.Duplicate, again.Verdict)
}
