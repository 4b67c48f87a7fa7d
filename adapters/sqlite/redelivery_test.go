package sqlite_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// A member that is taken for dead loses its messages; what it still does with them
// has no effect (I5), and it goes on as a new member.
func TestZombieIsFenced(t *testing.T) {
	path := file(t)
	zombie := openBroker(t, path, nil)
	createEffects(t, zombie)
	publish(t, zombie, event("1", ""))
	handling, wake := make(chan struct{}, 10), make(chan struct{})
	cancelled := make(chan error, 10)
	stopZombie := serve(t, zombie, func(msg *message.Message) ([]*message.Message, error) {
		handling <- struct{}{}
		<-wake
		out, err := ship(msg)
		cancelled <- context.Cause(msg.Context())
		return out, err
	}, nil)
	<-handling
	expireLeases(t, zombie)
	heir := openBroker(t, path, nil)
	stopHeir := serve(t, heir, ship, nil)
	drained(t, heir)
	exactlyOnce(t, heir, 1)
	close(wake)
	<-cancelled
	publish(t, heir, event("2", ""), event("3", ""))
	stopHeir() // the zombie is alive again
	drained(t, zombie)
	stopZombie()
	exactlyOnce(t, zombie, 3)
}

func TestMessageThatIsNeverAcknowledgedIsBuried(t *testing.T) {
	broker := openBroker(t, file(t), nil)
	publish(t, broker, event("bad", "k"), event("good", "k"))
	messages := subscribe(t, broker, input, func(s *adapters.Subscription) { s.MaxDeliveries = 3 })
	for attempt := range 3 {
		msg := receive(t, messages)
		require.Equal(t, "bad", string(msg.Payload))
		require.Equal(t, attempt+1, adapters.DeliveryFrom(msg.Context()).Attempt)
		msg.Nack()
	}
	msg := receive(t, messages)
	require.Equal(t, "good", string(msg.Payload))
	msg.Ack()
	letter := receive(t, subscribe(t, broker, "orders.dead", func(s *adapters.Subscription) { s.Group = "dead" }))
	require.Equal(t, "bad", string(letter.Payload))
	require.Equal(t, "handed out 3 times and never acknowledged", letter.Metadata.Get("hapax_dead_reason"))
	require.Equal(t, "orders", letter.Metadata.Get("hapax_dead_topic"))
	require.Equal(t, "bad", letter.Metadata.Get(dedup.MetaEventID))
	letter.Ack()
	drained(t, broker)
}

// A message that kills its consumer never gets to nack. Each taking over counts.
func TestMessageThatKillsItsConsumersIsBuried(t *testing.T) {
	path := file(t)
	broker := openBroker(t, path, nil)
	publish(t, broker, event("killer", ""))
	limit := func(s *adapters.Subscription) { s.MaxDeliveries, s.DrainTimeout = 3, time.Nanosecond }
	for attempt := range 3 {
		victim := openBroker(t, path, nil)
		messages := subscribe(t, victim, input, limit)
		require.Equal(t, attempt+1, adapters.DeliveryFrom(receive(t, messages).Context()).Attempt)
		require.NoError(t, victim.Close()) // gives up what it has, as a takeover would
	}
	subscribe(t, broker, input, limit)
	letter := receive(t, subscribe(t, broker, "orders.dead", func(s *adapters.Subscription) { s.Group = "dead" }))
	require.Equal(t, "killer", string(letter.Payload))
	letter.Ack()
	drained(t, broker)
}

// Nor does it take along what waits behind it, which was claimed as often, and never handed
// out; nor does what came later overtake that.
func TestMessageThatKillsItsConsumersIsBuriedAlone(t *testing.T) {
	path := file(t)
	broker := openBroker(t, path, nil)
	publish(t, broker, event("killer", "k"), event("behind", "k"))
	const deliveries = 4
	limit := func(s *adapters.Subscription) { s.MaxDeliveries, s.DrainTimeout = deliveries, time.Nanosecond }
	for death := range deliveries {
		if death == deliveries-1 {
			publish(t, broker, event("last", "k"))
		}
		victim := openBroker(t, path, nil)
		require.Equal(t, "killer", string(receive(t, subscribe(t, victim, input, limit)).Payload))
		require.NoError(t, victim.Close())
	}
	messages := subscribe(t, broker, input, limit)
	for _, id := range []string{"behind", "last"} {
		msg := receive(t, messages)
		require.Equal(t, id, string(msg.Payload))
		msg.Ack()
	}
	letter := receive(t, subscribe(t, broker, "orders.dead", func(s *adapters.Subscription) { s.Group = "dead" }))
	require.Equal(t, "killer", string(letter.Payload))
	letter.Ack()
	drained(t, broker)
}

func TestRetryAfterOutlivesItsConsumer(t *testing.T) {
	path := file(t)
	broker := openBroker(t, path, nil)
	publish(t, broker, event("later", "k"), event("next", "k"))
	messages := subscribe(t, broker, input, nil)
	msg := receive(t, messages)
	adapters.DeliveryFrom(msg.Context()).RetryAfter(time.Hour)
	msg.Nack()
	require.Eventually(t, func() bool {
		return count(t, broker, `SELECT count(*) FROM hapax_pending WHERE attempts = 1`) == 2
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, broker.Close())
	heir := openBroker(t, path, nil)
	select {
	case msg := <-subscribe(t, heir, input, nil):
		require.FailNow(t, "handed out too early, or not in order", "%s", msg.Payload)
	case <-time.After(100 * time.Millisecond):
	}
	_, err := heir.DB().Exec(`UPDATE hapax_pending SET visible_at = 1`) // an hour later
	require.NoError(t, err)
}

func TestContextEndsWithTheWork(t *testing.T) {
	broker := openBroker(t, file(t), nil)
	publish(t, broker, event("1", ""), event("2", ""), event("3", ""))
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: group, DrainTimeout: 20 * time.Millisecond})
	require.NoError(t, err)
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	messages, err := subscriber.Subscribe(ctx, input)
	require.NoError(t, err)
	acked, nacked, held := receive(t, messages), receive(t, messages), receive(t, messages)
	require.Equal(t, "value", held.Context().Value(key{}))
	derived, stop := context.WithCancel(acked.Context())
	defer stop()
	acked.Ack()
	<-derived.Done()
	nacked.Nack()
	<-nacked.Context().Done()
	cancel()
	require.NoError(t, held.Context().Err(), "the subscription drains first")
	<-held.Context().Done()
	for range messages { // closed at the end
	}
}

// What came behind a message of its key that waits for its redelivery has to wait as
// well, however much it is; other keys have not.
func TestKeyThatWaitsHoldsUpNoOther(t *testing.T) {
	path := file(t)
	broker := openBroker(t, path, nil)
	publish(t, broker, event("later", "slow"))
	msg := receive(t, subscribe(t, broker, input, nil))
	adapters.DeliveryFrom(msg.Context()).RetryAfter(time.Hour)
	msg.Nack()
	require.NoError(t, broker.Close())

	leaving := openBroker(t, path, nil)
	for i := range 300 {
		publish(t, leaving, event(fmt.Sprint("slow", i), "slow"))
	}
	publish(t, leaving, event("other", "quick"))
	require.Equal(t, "other", string(receive(t, subscribe(t, leaving, input, nil)).Payload))
	require.NoError(t, leaving.Close())

	msg = receive(t, subscribe(t, openBroker(t, path, nil), input, nil))
	require.Equal(t, "other", string(msg.Payload))
	msg.Ack()
}

// A member that was taken for dead while a message of a key waited for its redelivery
// waits for it no longer: it is another member's, which may be done with it by now.
func TestLostMessageThatWaitedHoldsUpNoKey(t *testing.T) {
	path := file(t)
	broker := openBroker(t, path, nil)
	publish(t, broker, event("first", "k"))
	messages := subscribe(t, broker, input, nil)
	msg := receive(t, messages)
	adapters.DeliveryFrom(msg.Context()).RetryAfter(time.Hour)
	msg.Nack()
	require.Eventually(t, func() bool {
		return count(t, broker, `SELECT count(*) FROM hapax_pending WHERE attempts = 1`) == 1
	}, 10*time.Second, time.Millisecond)
	expireLeases(t, broker)
	heir := openBroker(t, path, nil)
	taken := receive(t, subscribe(t, heir, input, func(s *adapters.Subscription) { s.Window = 1 }))
	require.Equal(t, "first", string(taken.Payload))
	taken.Ack()
	require.NoError(t, heir.Close())

	publish(t, broker, event("second", "k"))
	msg = receive(t, messages)
	require.Equal(t, "second", string(msg.Payload))
	msg.Ack()
	drained(t, broker)
}

// Another process that stands still in the middle of its transaction holds everybody
// up who wants to write, but not those who want to end.
func TestCloseDoesNotWaitForTheWriterForEver(t *testing.T) {
	path := file(t)
	broker := openBroker(t, path, nil)
	publish(t, broker, event("acked", ""), event("held", ""))
	messages := subscribe(t, broker, input, nil)
	acked := receive(t, messages)
	receive(t, messages)
	tx, err := openBroker(t, path, nil).DB().BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback()) }()
	acked.Ack()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = broker.Close() // says that it could not leave
	}()
	select {
	case <-closed:
	case <-time.After(2 * time.Minute):
		require.NoError(t, tx.Rollback())
		require.FailNow(t, "not closed while another process holds the file")
	}
}
