package sqlite_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqlite"
	"github.com/hapax-go/hapax/dedup"
)

func subscribe(t testing.TB, broker *sqlite.Broker, topic string, change func(*adapters.Subscription)) <-chan *message.Message {
	t.Helper()
	subscription := adapters.Subscription{Group: group, RedeliveryDelay: time.Millisecond, DrainTimeout: 50 * time.Millisecond}
	if change != nil {
		change(&subscription)
	}
	subscriber, err := broker.Subscriber(subscription)
	require.NoError(t, err)
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	return messages
}

func receive(t testing.TB, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case msg, open := <-messages:
		require.True(t, open, "channel was closed")
		return msg
	case <-time.After(20 * time.Second):
		require.FailNow(t, "no message")
		return nil
	}
}

// expireLeases is what the passing of time does to consumers that send no
// heartbeat, because they were killed or stopped.
func expireLeases(t testing.TB, broker *sqlite.Broker) {
	t.Helper()
	_, err := broker.DB().Exec(`UPDATE hapax_consumers SET lease_until = 1`)
	require.NoError(t, err)
}

func TestMessageCrossesTheFileUnchanged(t *testing.T) {
	broker := openBroker(t, file(t), nil)
	sent := event("id", "key")
	sent.Payload = []byte{0, 1, 0xff}
	sent.Metadata.Set("quotes", "\"\\\n\u2028 ü")
	sent.Metadata.Set("binary", "\xff\x00\xfe")
	sent.Metadata.Set("\xfekey", "")
	sent.Metadata.Set("hapax_published_at", "2026-01-02T03:04:05Z")
	publish(t, broker, sent)
	msg := receive(t, subscribe(t, broker, input, nil))
	require.Equal(t, sent.UUID, msg.UUID)
	require.Equal(t, sent.Metadata, msg.Metadata)
	require.Equal(t, []byte(sent.Payload), []byte(msg.Payload))
	delivery := adapters.DeliveryFrom(msg.Context())
	require.Equal(t, 1, delivery.Attempt)
	require.Equal(t, "orders@1", delivery.Position)
	msg.Ack()
}

func TestPublishStampsItsTimeOnTheCopyOnly(t *testing.T) {
	broker := openBroker(t, file(t), nil)
	sent := event("id", "")
	before := time.Now()
	publish(t, broker, sent)
	require.Empty(t, sent.Metadata.Get(dedup.MetaPublishedAt))
	msg := receive(t, subscribe(t, broker, input, nil))
	at, err := time.Parse(time.RFC3339Nano, msg.Metadata.Get(dedup.MetaPublishedAt))
	require.NoError(t, err)
	require.WithinRange(t, at, before.Add(-time.Second), time.Now())
	msg.Ack()
}

func TestPublishIsAllOrNothing(t *testing.T) {
	broker := openBroker(t, file(t), func(c *sqlite.Config) { c.MaxPayload = 10 })
	large := event("large", "")
	large.Payload = bytes.Repeat([]byte("x"), 11)
	err := broker.Publisher().Publish(input, event("small", ""), large)
	require.EqualError(t, err, `output cannot be published: the payload of message uuid-large to "orders" has 11 bytes, the limit is 10: send a reference to the data, or raise sqlite.max_payload`)
	require.Zero(t, count(t, broker, `SELECT count(*) FROM hapax_messages`))
	require.ErrorContains(t, broker.Publisher().Publish("", event("x", "")), "has no topic")
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	folder := t.TempDir()
	damaged := filepath.Join(folder, "damaged.db")
	require.NoError(t, os.WriteFile(damaged, []byte(strings.Repeat("no database ", 100)), 0o600))
	newer := filepath.Join(folder, "newer.db")
	broker := openBroker(t, newer, nil)
	_, err := broker.DB().Exec(`UPDATE hapax_schema SET version = 99 WHERE component = 'broker'`)
	require.NoError(t, err)
	for path, want := range map[string]string{
		"":                                    "path is empty, expected the name of a file",
		filepath.Join(folder, "none", "x.db"): "check that the folder exists and is writable",
		damaged:                               "the file is not a SQLite database, or is damaged",
		newer:                                 "its tables have version 99, this program knows up to 1: update the program, or use another file",
	} {
		_, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
		require.ErrorContains(t, err, want)
	}
	_, err = sqlite.Open(t.Context(), sqlite.Config{Path: file(t), LeaseDuration: time.Second, HeartbeatInterval: time.Second})
	require.ErrorContains(t, err, "heartbeat interval is 1s, expected less than the lease of 1s")
}

// A process that was stopped while it held the writer keeps nobody from starting.
func TestOpenDoesNotWaitForTheWriter(t *testing.T) {
	path := file(t)
	tx, err := openBroker(t, path, nil).DB().BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback()) }()
	broker, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	require.NoError(t, err)
	require.NoError(t, broker.Close())
}

func TestClosedBrokerRefuses(t *testing.T) {
	broker := openBroker(t, file(t), nil)
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: group})
	require.NoError(t, err)
	require.NoError(t, broker.Ping(t.Context()))
	require.Empty(t, broker.Check(t.Context()))
	require.NoError(t, broker.Close())
	require.ErrorIs(t, broker.Publisher().Publish(input, event("x", "")), sqlite.ErrClosed)
	_, err = subscriber.Subscribe(t.Context(), input)
	require.ErrorIs(t, err, sqlite.ErrClosed)
	require.Error(t, broker.Ping(t.Context()))
	_, err = broker.Strategy("xack", adapters.StrategyOptions{})
	require.ErrorIs(t, err, adapters.ErrNoStrategy)
}

// Whoever of the two is first: the subscription fails, or ends.
func TestSubscribeWhileTheBrokerCloses(t *testing.T) {
	for range 100 {
		broker := openBroker(t, file(t), nil)
		subscriber, err := broker.Subscriber(adapters.Subscription{Group: group, DrainTimeout: -1})
		require.NoError(t, err)
		var subscribed sync.WaitGroup
		registered := make(chan struct{}, 1)
		subscribed.Go(func() {
			_ = subscriber.(message.SubscribeInitializer).SubscribeInitialize(input)
			registered <- struct{}{}
			messages, err := subscriber.Subscribe(t.Context(), input)
			if err == nil {
				for range messages { // closed at the end
				}
			}
		})
		<-registered
		require.NoError(t, broker.Close())
		subscribed.Wait()
	}
}

func TestAnotherProcessIsWokenByAPublish(t *testing.T) {
	path := file(t)
	messages := subscribe(t, openBroker(t, path, nil), input, nil)
	other := openBroker(t, path, nil)
	for i := range 3 {
		publish(t, other, event(fmt.Sprint(i), ""))
		receive(t, messages).Ack()
	}
}

func TestGroupsEachSeeEverythingAndMembersShareIt(t *testing.T) {
	broker := openBroker(t, file(t), nil)
	const events = 200
	for i := range events {
		publish(t, broker, event(fmt.Sprint(i), ""))
	}
	var mu sync.Mutex
	seen := map[string]int{}
	var all sync.WaitGroup
	for member := range 4 {
		messages := subscribe(t, broker, input, func(s *adapters.Subscription) { s.Group, s.Window = fmt.Sprint("group", member%2), 20 })
		all.Go(func() {
			for msg := range messages {
				mu.Lock()
				seen[string(msg.Payload)]++
				mu.Unlock()
				msg.Ack()
			}
		})
	}
	drained(t, broker)
	require.NoError(t, broker.Close())
	all.Wait()
	require.Len(t, seen, events)
	for id, times := range seen {
		require.Equal(t, 2, times, id)
	}
}

// While one member has a message of a key, no other member gets the next one.
func TestKeyIsWithOneMemberAtATime(t *testing.T) {
	path := file(t)
	first, second := openBroker(t, path, nil), openBroker(t, path, nil)
	publish(t, first, event("a1", "a"))
	held := receive(t, subscribe(t, first, input, func(s *adapters.Subscription) { s.Window = 1 }))
	other := subscribe(t, second, input, nil)
	publish(t, second, event("a2", "a"), event("b1", "b"), event("a3", "a"), event("a1", "other"))
	require.Equal(t, "b1", string(receive(t, other).Payload), "a2 comes before it and is blocked")
	// A key of another message does not separate copies without one.
	require.Equal(t, "a1", string(receive(t, other).Payload))
	select {
	case msg := <-other:
		require.FailNow(t, "not in order", "%s", msg.Payload)
	case <-time.After(50 * time.Millisecond): // nothing may come: there is no event to wait for
	}
	held.Ack()
	rest := []string{}
	done := make(chan struct{})
	require.NoError(t, first.Close()) // whoever of the two took them over, the order stays
	go func() {
		defer close(done)
		for range 2 {
			msg := receive(t, other)
			rest = append(rest, string(msg.Payload))
			msg.Ack()
		}
	}()
	<-done
	require.Equal(t, []string{"a2", "a3"}, rest)
}

func TestCopiesWithoutKeyAreWithOneMemberAtATime(t *testing.T) {
	path := file(t)
	first, second := openBroker(t, path, nil), openBroker(t, path, nil)
	publish(t, first, event("copy", ""))
	held := receive(t, subscribe(t, first, input, func(s *adapters.Subscription) { s.Window = 1 }))
	other := subscribe(t, second, input, nil)
	publish(t, second, event("copy", ""), event("x", ""))
	msg := receive(t, other)
	require.Equal(t, "x", string(msg.Payload))
	msg.Ack()
	held.Ack()
}

func TestRetentionKeepsWhatSomebodyNeeds(t *testing.T) {
	broker := openBroker(t, file(t), func(c *sqlite.Config) { c.Retention = time.Nanosecond })
	for i := range 5 {
		publish(t, broker, event(fmt.Sprint(i), ""))
	}
	left := func() int {
		require.NoError(t, broker.Sweep(t.Context()))
		return count(t, broker, `SELECT count(*) FROM hapax_messages`)
	}
	require.Equal(t, 5, left(), "a topic without groups is kept")
	messages := subscribe(t, broker, input, nil)
	var held []*message.Message
	for range 5 {
		held = append(held, receive(t, messages))
	}
	require.Equal(t, 5, left(), "unacknowledged messages are kept")
	for _, msg := range append(held[:2:2], held[3:]...) {
		msg.Ack()
	}
	require.Eventually(t, func() bool { return count(t, broker, `SELECT count(*) FROM hapax_pending`) == 1 }, 10*time.Second, time.Millisecond)
	require.Equal(t, 3, left(), "those below the unacknowledged one are gone")
	held[2].Ack()
	drained(t, broker)
	require.Zero(t, left())
	publish(t, broker, event("new", ""))
	msg := receive(t, messages)
	require.Equal(t, "orders@6", adapters.DeliveryFrom(msg.Context()).Position, "positions are never used again")
	msg.Ack()
}

func TestFailedHandlerLeavesNothing(t *testing.T) {
	broker := openBroker(t, file(t), nil)
	createEffects(t, broker)
	publish(t, broker, event("1", ""))
	failures := []func() error{
		func() error { return errors.New("refused") },
		func() error { panic("boom") },
	}
	var mu sync.Mutex
	stop := serve(t, broker, func(msg *message.Message) (out []*message.Message, err error) {
		defer func() {
			if recovered := recover(); recovered != nil {
				err = fmt.Errorf("panic: %v", recovered)
			}
		}()
		out, err = ship(msg)
		mu.Lock()
		defer mu.Unlock()
		if len(failures) > 0 {
			fail := failures[0]
			failures = failures[1:]
			return out, fail()
		}
		return out, err
	}, nil)
	drained(t, broker)
	stop()
	exactlyOnce(t, broker, 1)
}
