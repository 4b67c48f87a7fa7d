package redis_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/dedup"
)

// serve runs a Router with a handler under the strategy until the test is over, and
// reports the outcome of every run.
func serve(t *testing.T, broker *redis.Broker, topic string, claim dedup.ClaimKind, handle message.HandlerFunc) <-chan error {
	t.Helper()
	outcomes, stop := serveUnder(t, broker, topic, claim, time.Hour, handle)
	t.Cleanup(stop)
	return outcomes
}

// serveUnder is serve with a window, until it is stopped.
func serveUnder(t *testing.T, broker *redis.Broker, topic string, claim dedup.ClaimKind, window time.Duration, handle message.HandlerFunc) (outcomes chan error, stop func()) {
	t.Helper()
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", RedeliveryDelay: 10 * time.Millisecond, DrainTimeout: 100 * time.Millisecond, MaxDeliveries: -1})
	require.NoError(t, err)
	scope := dedup.Scope{Service: topic, Handler: "handler"}
	strategy, err := broker.Strategy(dedup.StrategyXAck, adapters.StrategyOptions{Scope: scope, Group: "group", Window: window, Claim: claim})
	require.NoError(t, err)
	deduplicate, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy, InFlightWait: -1})
	require.NoError(t, err)
	outcomes = make(chan error, 100) // tests of more messages do not look
	router := message.NewDefaultRouter(watermill.NopLogger{})
	router.AddHandler("handler", topic, subscriber, topic+".out", broker.Publisher(), handle).AddMiddleware(
		func(next message.HandlerFunc) message.HandlerFunc {
			return func(msg *message.Message) ([]*message.Message, error) {
				made, err := next(msg)
				select {
				case outcomes <- err:
				default:
				}
				return made, err
			}
		}, deduplicate.Wrap)
	ended := make(chan error, 1)
	go func() { ended <- router.Run(context.Background()) }()
	<-router.Running()
	return outcomes, func() {
		require.NoError(t, router.Close())
		require.NoError(t, <-ended)
	}
}

func outcome(t *testing.T, outcomes <-chan error) error {
	t.Helper()
	select {
	case err := <-outcomes:
		return err
	case <-time.After(30 * time.Second):
		require.FailNow(t, "no delivery ended")
		return nil
	}
}

func drained(t *testing.T, client *goredis.Client, topic string) {
	t.Helper()
	require.Eventually(t, func() bool { return pending(t, client, topic) == 0 }, 20*time.Second, 5*time.Millisecond, "an entry stays pending")
}

func pass(msg *message.Message) ([]*message.Message, error) {
	return []*message.Message{message.NewMessage("", msg.Payload)}, nil
}

// Scenario 8: the handler fails twice, then succeeds.
func TestHandlerFailsTwice(t *testing.T) {
	t.Parallel()
	for _, claim := range claims {
		broker, topic, client := openShared(t, nil), newTopic(t), rawClient(t)
		var runs atomic.Int64
		looked := make(chan struct{}) // before the third delivery succeeds
		outcomes := serve(t, broker, topic, dedup.ClaimKind(claim), func(msg *message.Message) ([]*message.Message, error) {
			if runs.Add(1) <= 2 {
				return nil, errors.New("not yet")
			}
			<-looked
			return pass(msg)
		})
		require.NoError(t, broker.Publisher().Publish(topic, sample()))
		for range 2 {
			require.ErrorContains(t, outcome(t, outcomes), "not yet")
			require.EqualValues(t, 1, pending(t, client, topic), "acknowledged before it succeeded")
			require.Zero(t, client.XLen(t.Context(), topic+".out").Val(), "published before it succeeded")
		}
		close(looked)
		require.NoError(t, outcome(t, outcomes))
		drained(t, client, topic)
		require.EqualValues(t, 1, client.XLen(t.Context(), topic+".out").Val())

		require.NoError(t, broker.Publisher().Publish(topic, sample())) // a copy
		require.NoError(t, outcome(t, outcomes))
		require.EqualValues(t, 3, runs.Load(), "the copy ran the handler")
		require.EqualValues(t, 1, client.XLen(t.Context(), topic+".out").Val())
	}
}

// Scenario 8: the handler succeeds, and its output cannot be published. Nothing of the
// commit may stay: neither the mark nor the outputs before the one that failed.
func TestPublishFailsAfterTheHandler(t *testing.T) {
	t.Parallel()
	for _, claim := range claims {
		broker, topic, client := openShared(t, nil), newTopic(t), rawClient(t)
		require.NoError(t, client.Set(t.Context(), topic+".second", "no stream", 0).Err())
		subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group"})
		require.NoError(t, err)
		messages, err := subscriber.Subscribe(t.Context(), topic)
		require.NoError(t, err)
		strategy, err := broker.Strategy(dedup.StrategyXAck, adapters.StrategyOptions{Window: time.Hour, Claim: dedup.ClaimKind(claim)})
		require.NoError(t, err)
		require.NoError(t, broker.Publisher().Publish(topic, sample()))
		commit := func() error {
			msg := receive(t, messages)
			event := &dedup.Event{Message: msg, Entry: dedup.Entry{ID: dedup.NewID(dedup.Scope{}, topic), Digest: dedup.NewDigest(msg.Payload)}}
			held, err := strategy.Claim(msg.Context(), []*dedup.Event{event})
			require.NoError(t, err)
			require.Equal(t, dedup.Fresh, event.Verdict, "marked, although nothing was committed")
			err = held.Commit(msg.Context(), []dedup.Output{
				{Topic: topic + ".first", Message: message.NewMessage("1", nil)}, {Topic: topic + ".second", Message: message.NewMessage("2", nil)},
			})
			if err != nil {
				held.Release(msg.Context())
				msg.Nack()
				return err
			}
			msg.Ack()
			return nil
		}
		require.ErrorContains(t, commit(), "WRONGTYPE")
		require.Zero(t, client.XLen(t.Context(), topic+".first").Val(), "half a commit is visible")
		require.EqualValues(t, 1, pending(t, client, topic))
		require.NoError(t, client.Del(t.Context(), topic+".second").Err())
		require.NoError(t, commit())
		drained(t, client, topic)
		require.EqualValues(t, 1, client.XLen(t.Context(), topic+".first").Val())
		require.EqualValues(t, 1, client.XLen(t.Context(), topic+".second").Val())
	}
}

// Scenario 10: a handler that takes three leases is not robbed, thanks to heartbeats.
func TestSlowHandlerKeepsItsMessage(t *testing.T) {
	t.Parallel()
	for _, claim := range claims {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			topic, client := newTopic(t), rawClient(t)
			var runs atomic.Int64
			slow := func(msg *message.Message) ([]*message.Message, error) {
				runs.Add(1)
				<-time.After(3 * time.Second) // openShared's lease is one
				return pass(msg)
			}
			first := openShared(t, nil)
			outcomes := serve(t, first, topic, dedup.ClaimKind(claim), slow)
			require.NoError(t, first.Publisher().Publish(topic, sample()))
			require.Eventually(t, func() bool { return runs.Load() == 1 }, 20*time.Second, time.Millisecond)
			others := serve(t, openShared(t, nil), topic, dedup.ClaimKind(claim), slow)
			require.NoError(t, outcome(t, outcomes))
			drained(t, client, topic)
			require.EqualValues(t, 1, runs.Load(), "somebody took the message over")
			require.EqualValues(t, 1, client.XLen(t.Context(), topic+".out").Val())
			require.Empty(t, others)
		})
	}
}

// Scenario 10: with the heartbeat frozen another takes over, and the old owner cannot
// commit, whichever of the two is first.
func TestFrozenOwnerCannotCommit(t *testing.T) {
	t.Parallel()
	for _, claim := range claims {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			topic, client := newTopic(t), rawClient(t)
			frozen, release := openShared(t, nil), make(chan struct{})
			started := make(chan struct{})
			outcomes := serve(t, frozen, topic, dedup.ClaimKind(claim), func(msg *message.Message) ([]*message.Message, error) {
				close(started)
				<-release
				return pass(msg)
			})
			require.NoError(t, frozen.Publisher().Publish(topic, sample()))
			<-started
			frozen.Freeze()
			heirs := serve(t, openShared(t, nil), topic, dedup.ClaimKind(claim), func(msg *message.Message) ([]*message.Message, error) {
				close(release) // the old owner tries first
				require.ErrorIs(t, outcome(t, outcomes), dedup.ErrLeaseLost)
				return pass(msg)
			})
			require.NoError(t, outcome(t, heirs))
			drained(t, client, topic)
			require.EqualValues(t, 1, client.XLen(t.Context(), topic+".out").Val())
		})
	}
}
