package rabbitmq_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/dedup"
)

// A consumer of another program gives a message back more often than the queue
// allows: the server dead-letters it, and it is a letter like any other.
func TestDeliveryLimitOfTheQueue(t *testing.T) {
	for name, elsewhere := range map[string]string{"the default": "", "the subscription's": newTopic(t)} {
		t.Run(name, func(t *testing.T) { deliveryLimitOfTheQueue(t, elsewhere) })
	}
}

func deliveryLimitOfTheQueue(t *testing.T, elsewhere string) {
	broker, topic := opened(t, nil), newTopic(t)
	subscription := adapters.Subscription{Group: "group", MaxDeliveries: 3, DeadLetter: elsewhere}
	subscriber, err := broker.Subscriber(subscription)
	require.NoError(t, err)
	require.NoError(t, subscriber.(message.SubscribeInitializer).SubscribeInitialize(topic))
	for _, found := range broker.Checks(t.Context(), []adapters.Use{{
		Topic: topic, Group: "group", DeadLetter: elsewhere, MaxDeliveries: 3, Strategy: dedup.StrategyNone,
	}}) {
		require.Empty(t, found.Problem)
	}
	letterTopic := dedup.DeadLetterTopic(topic)
	if elsewhere != "" {
		letterTopic = elsewhere
	}
	letters := subscribe(t, broker, letterTopic, nil)
	require.NoError(t, broker.Publisher().Publish(topic, newMessage("poison")))
	channel := raw(t)
	require.NoError(t, channel.Qos(1, 0, false))
	deliveries, err := channel.Consume(topic+"_group", "", false, false, false, false, nil)
	require.NoError(t, err)
	for range 4 {
		delivery := <-deliveries
		require.NoError(t, delivery.Nack(false, true))
	}
	letter := receive(t, letters)
	require.Equal(t, "poison", letter.Metadata.Get(dedup.MetaEventID))
	require.Contains(t, letter.Metadata.Get(dedup.MetaDeadReason), "delivery_limit")
	require.Equal(t, topic, letter.Metadata.Get(dedup.MetaDeadTopic))
	require.NotContains(t, letter.Metadata, dedup.MetaDeadAttempts, "the server does not tell of its four deliveries")
	letter.Ack()
	// Nobody read the letters when the queue was declared, so they are kept too.
	require.Eventually(t, func() bool {
		_, found, err := raw(t).Get(letterTopic, true)
		return err == nil && found
	}, 10*time.Second, 20*time.Millisecond)
}

// A letter has the ID of the message-id property written down, when the event has no
// other that counts for more. A UUID is not: the config may ignore it.
func TestBuriedUnderItsMessageID(t *testing.T) {
	const uuid = "_watermill_message_uuid"
	for name, test := range map[string]struct {
		sent amqp.Publishing
		want string
	}{
		"message-id":       {amqp.Publishing{MessageId: "7", Headers: amqp.Table{uuid: "drawn"}}, "7"},
		"event ID":         {amqp.Publishing{MessageId: "7", Headers: amqp.Table{dedup.MetaEventID: "own"}}, "own"},
		"CloudEvent":       {amqp.Publishing{MessageId: "7", Headers: amqp.Table{"ce_id": "8", "ce_source": "/shop"}}, ""},
		"nothing but uuid": {amqp.Publishing{Headers: amqp.Table{uuid: "drawn"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker, topic := opened(t, nil), newTopic(t)
			letters := subscribe(t, broker, dedup.DeadLetterTopic(topic), nil)
			messages := subscribe(t, broker, topic, func(s *adapters.Subscription) { s.MaxDeliveries = 1 })
			require.NoError(t, raw(t).Publish(topic, "", true, false, test.sent))
			msg := receive(t, messages)
			before, _, err := dedup.Identity{}.Find(msg)
			require.NoError(t, err)
			msg.Nack()
			letter := receive(t, letters)
			defer letter.Ack()
			require.Equal(t, test.want, letter.Metadata.Get(dedup.MetaEventID))
			after, _, err := dedup.Identity{}.Find(letter)
			require.NoError(t, err)
			require.Equal(t, before, after)
		})
	}
}

// A message whose consumers died is buried before it kills another.
func TestBuriedOnArrival(t *testing.T) {
	broker, topic := opened(t, nil), newTopic(t)
	letters := subscribe(t, broker, dedup.DeadLetterTopic(topic), nil)
	limited := func(s *adapters.Subscription) { s.MaxDeliveries, s.DrainTimeout = 2, -1 }
	for attempt := range 2 {
		dying := opened(t, nil)
		messages := subscribe(t, dying, topic, limited)
		if attempt == 0 {
			require.NoError(t, broker.Publisher().Publish(topic, newMessage("poison")))
		}
		require.Equal(t, attempt+1, adapters.DeliveryFrom(receive(t, messages).Context()).Attempt)
		dying.Abandon()
	}
	messages := subscribe(t, broker, topic, limited)
	letter := receive(t, letters)
	require.Contains(t, letter.Metadata.Get(dedup.MetaDeadReason), "handed out 2 times")
	letter.Ack()
	select {
	case msg := <-messages:
		require.Fail(t, "handed out again", "%v", msg)
	default:
	}
}

// One poisonous message does not take those with it that its consumer was only
// sent ahead.
func TestPoisonDiesAlone(t *testing.T) {
	broker, topic := opened(t, nil), newTopic(t)
	letters := subscribe(t, broker, dedup.DeadLetterTopic(topic), nil)
	limited := func(s *adapters.Subscription) { s.MaxDeliveries, s.DrainTimeout = 6, -1 }
	const innocents = 40
	seen := map[string]bool{}
	for deaths := 0; len(seen) < innocents; deaths++ {
		require.Less(t, deaths, 50)
		dying := opened(t, nil)
		messages := subscribe(t, dying, topic, limited)
		if deaths == 0 {
			batch := []*message.Message{newMessage("poison")}
			for i := range innocents {
				batch = append(batch, newMessage(fmt.Sprint(i)))
			}
			require.NoError(t, broker.Publisher().Publish(topic, batch...))
		}
		for dead := false; !dead && len(seen) < innocents; {
			msg := receive(t, messages)
			if dead = msg.UUID == "uuid-poison"; dead {
				dying.Abandon()
				continue
			}
			seen[msg.UUID] = true
			msg.Ack()
		}
	}
	letter := receive(t, letters)
	require.Equal(t, "uuid-poison", letter.UUID)
	letter.Ack()
	select {
	case msg := <-letters:
		require.Fail(t, "another letter", "%v", msg)
	case <-time.After(200 * time.Millisecond):
	}
}

// A letter is not dropped, however often a reader gives it back: there is nowhere
// else that it would go.
func TestLettersHaveNoLimit(t *testing.T) {
	broker := opened(t, nil)
	for name, read := range map[string]bool{"read by a group": true, "kept": false} {
		t.Run(name, func(t *testing.T) {
			topic := dedup.DeadLetterTopic(newTopic(t))
			queue := topic
			if read {
				subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", MaxDeliveries: 3})
				require.NoError(t, err)
				require.NoError(t, subscriber.(message.SubscribeInitializer).SubscribeInitialize(topic))
				queue = topic + "_group"
			}
			letter := newMessage("letter")
			letter.Metadata.Set(dedup.MetaDeadReason, "permanent")
			require.NoError(t, broker.Publisher().Publish(topic, letter))
			channel := raw(t)
			require.NoError(t, channel.Qos(1, 0, false))
			deliveries, err := channel.Consume(queue, "", false, false, false, false, nil)
			require.NoError(t, err)
			for range 25 { // RabbitMQ 4 has a limit of 20 of its own
				select {
				case delivery := <-deliveries:
					require.NoError(t, delivery.Nack(false, true))
				case <-time.After(5 * time.Second):
					require.FailNow(t, "the letter is gone")
				}
			}
		})
	}
}

// Who was to keep a topic's letters did not come to the end of it. The next start does, or
// what the server dead-letters would wait where nobody sees it.
func TestLettersAreKeptAtTheNextStart(t *testing.T) {
	t.Parallel()
	quorum := amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}
	for name, before := range map[string]func(t *testing.T, broker *rabbitmq.Broker, topic, letters string){
		"killed before the binding": func(t *testing.T, _ *rabbitmq.Broker, _, letters string) {
			_, err := raw(t).QueueDeclare(letters, true, false, false, false, quorum)
			require.NoError(t, err)
			require.NoError(t, raw(t).ExchangeDeclare(letters, amqp.ExchangeFanout, true, false, false, false, nil))
		},
		"the queue was refused, and deleted": func(t *testing.T, broker *rabbitmq.Broker, topic, letters string) {
			channel := raw(t)
			_, err := channel.QueueDeclare(letters, true, false, false, false, nil)
			require.NoError(t, err)
			require.ErrorContains(t, initialize(t, broker, topic), "not of type quorum")
			_, err = channel.QueueDelete(letters, false, false, false)
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker, topic := opened(t, nil), newTopic(t)
			letters := dedup.DeadLetterTopic(topic)
			before(t, broker, topic, letters)
			require.NoError(t, initialize(t, broker, topic))
			channel := raw(t)
			require.NoError(t, channel.Publish(letters, "", true, false, amqp.Publishing{MessageId: "letter"}))
			require.Eventually(t, func() bool {
				_, found, err := channel.Get(letters, true)
				return err == nil && found
			}, 10*time.Second, 20*time.Millisecond, "nobody keeps the letter")
		})
	}
}

// A queue of letters that was deleted, because a group reads them, is not made again.
func TestLettersThatAGroupReadsAreNotKept(t *testing.T) {
	t.Parallel()
	broker, topic := opened(t, nil), newTopic(t)
	letters := dedup.DeadLetterTopic(topic)
	require.NoError(t, initialize(t, broker, topic))
	require.NoError(t, initialize(t, broker, letters))
	_, err := raw(t).QueueDelete(letters, false, false, false)
	require.NoError(t, err)
	require.NoError(t, initialize(t, broker, topic))
	_, err = raw(t).QueueDeclarePassive(letters, true, false, false, false, nil)
	var refused *amqp.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, amqp.NotFound, refused.Code)
}

func initialize(t *testing.T, broker *rabbitmq.Broker, topic string) error {
	t.Helper()
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", MaxDeliveries: 3})
	require.NoError(t, err)
	return subscriber.(message.SubscribeInitializer).SubscribeInitialize(topic)
}

// What was looked at is there for the next look, at once.
func TestLettersAreBackWhenTheLookEnds(t *testing.T) {
	t.Parallel()
	broker, topic := opened(t, nil), dedup.DeadLetterTopic(newTopic(t))
	for _, id := range []string{"a", "b"} {
		letter := newMessage(id)
		letter.Metadata.Set(dedup.MetaDeadReason, "permanent")
		require.NoError(t, broker.Publisher().Publish(topic, letter))
	}
	for look := range 50 {
		var seen []string
		require.NoError(t, broker.Letters(t.Context(), topic, func(letter *message.Message) (bool, error) {
			seen = append(seen, letter.UUID)
			return false, nil
		}))
		require.Equal(t, []string{"uuid-a", "uuid-b"}, seen, "look %d", look)
	}
}

// One message was given back as often as is allowed, and another so often that it asks for
// care, at which the consumer opens another channel. The letter on its way is waited for,
// or its message would come again and be a second letter.
func TestOneLetterWhenCareBegins(t *testing.T) {
	t.Parallel()
	broker, topic := opened(t, nil), newTopic(t)
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", MaxDeliveries: 4, DrainTimeout: time.Second})
	require.NoError(t, err)
	require.NoError(t, subscriber.(message.SubscribeInitializer).SubscribeInitialize(topic))
	require.NoError(t, broker.Publisher().Publish(topic, newMessage("poison"), newMessage("suspect")))
	channel := raw(t)
	require.NoError(t, channel.Qos(2, 0, false))
	deliveries, err := channel.Consume(topic+"_group", "", false, false, false, false, nil)
	require.NoError(t, err)
	held := []amqp.Delivery{<-deliveries, <-deliveries}
	for range 3 {
		require.Equal(t, "poison", held[0].MessageId)
		require.NoError(t, held[0].Nack(false, true))
		held[0] = <-deliveries
	}
	require.NoError(t, held[1].Nack(false, true))
	held[1] = <-deliveries
	require.Equal(t, "suspect", held[1].MessageId)
	require.NoError(t, channel.Close()) // which counts once more

	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	msg := receive(t, messages)
	require.Equal(t, "suspect", msg.Metadata.Get(dedup.MetaEventID))
	msg.Ack()
	require.NoError(t, subscriber.Close())
	var letters []string
	require.NoError(t, broker.Letters(t.Context(), dedup.DeadLetterTopic(topic), func(letter *message.Message) (bool, error) {
		letters = append(letters, letter.Metadata.Get(dedup.MetaEventID))
		return true, nil
	}))
	require.Equal(t, []string{"poison"}, letters)
}

// What another program sent may be larger than what is published here, and an event that
// fills its headers gets more of them as a letter. They are buried all the same: one that
// never is fills the prefetch window, and asks for one message at a time before.
func TestLargeMessagesAreBuried(t *testing.T) {
	t.Parallel()
	broker := opened(t, func(c *rabbitmq.Config) { c.MaxPayload = 1000 })
	for name, sent := range map[string]amqp.Publishing{
		"payload": {MessageId: "large", Body: make([]byte, 1001)},
		"headers": {MessageId: "large", Headers: amqp.Table{"wide": strings.Repeat("x", 120<<10)}},
	} {
		t.Run(name, func(t *testing.T) {
			topic := newTopic(t)
			letters := subscribe(t, broker, dedup.DeadLetterTopic(topic), nil)
			messages := subscribe(t, broker, topic, func(s *adapters.Subscription) { s.MaxDeliveries = 1 })
			require.NoError(t, raw(t).Publish(topic, "", true, false, sent))
			receive(t, messages).Nack()
			letter := receive(t, letters)
			require.Equal(t, "large", letter.Metadata.Get(dedup.MetaEventID))
			require.Len(t, letter.Payload, len(sent.Body))
			letter.Ack()
		})
	}
	t.Run("a handler's reason", func(t *testing.T) {
		topic, event := newTopic(t), newMessage("event")
		subscribe(t, broker, topic, nil)
		event.Metadata.Set("wide", strings.Repeat("x", 119<<10))
		require.NoError(t, broker.Publisher().Publish(topic, event))
		letter := event.Copy()
		letter.Metadata.Set(dedup.MetaDeadReason, "permanent")
		letter.Metadata.Set(dedup.MetaDeadStack, strings.Repeat("s", 4<<10))
		letter.Metadata.Set(dedup.MetaDeadError, strings.Repeat("e", 2<<10))
		letter.Metadata.Set(dedup.MetaDeadPosition, strings.Repeat("p", 4<<10))
		require.NoError(t, broker.Publisher().Publish(topic, letter))
		require.Contains(t, letter.Metadata, dedup.MetaDeadStack, "the caller's own is as it was")
	})
}

// Who copies a message with its headers, as tools do that move letters back, brings the
// count of another queue along. It says nothing about this one.
func TestCountOfAnotherQueue(t *testing.T) {
	t.Parallel()
	for _, kind := range []rabbitmq.QueueType{rabbitmq.Quorum, rabbitmq.Classic} {
		t.Run(string(kind), func(t *testing.T) {
			broker, topic := opened(t, func(c *rabbitmq.Config) { c.QueueType = kind }), newTopic(t)
			messages := subscribe(t, broker, topic, func(s *adapters.Subscription) { s.MaxDeliveries = 5 })
			moved := amqp.Publishing{MessageId: "moved", Headers: amqp.Table{"x-delivery-count": int64(7)}}
			require.NoError(t, raw(t).Publish(topic, "", true, false, moved))
			require.Equal(t, 1, adapters.DeliveryFrom(receive(t, messages).Context()).Attempt)
			broker.Cut()
			again := receive(t, messages)
			require.Equal(t, 2, adapters.DeliveryFrom(again.Context()).Attempt)
			again.Ack()
		})
	}
}

// A message came to the topic over another exchange that is bound to it. When the server
// dead-letters it, its letter is one of the topic, in one queue and in partitions: there
// an operator looks for it, and puts it back.
func TestLetterOfAMessageFromAnotherExchange(t *testing.T) {
	t.Parallel()
	for name, partitions := range map[string]int{"one queue": 0, "partitions": 1} {
		t.Run(name, func(t *testing.T) {
			broker := opened(t, func(c *rabbitmq.Config) { c.Partitions = partitions })
			topic := newTopic(t)
			queue := topic + "_group"
			if partitions > 0 {
				queue = topic + "%partition-0_group"
			}
			letters := subscribe(t, broker, dedup.DeadLetterTopic(topic), nil)
			subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", MaxDeliveries: 1})
			require.NoError(t, err)
			require.NoError(t, subscriber.(message.SubscribeInitializer).SubscribeInitialize(topic))
			channel, elsewhere := raw(t), newTopic(t)
			require.NoError(t, channel.ExchangeDeclare(elsewhere, "topic", false, true, false, false, nil))
			require.NoError(t, channel.ExchangeBind(topic, "#", elsewhere, false, nil))
			require.NoError(t, channel.Publish(elsewhere, "orders.created", true, false, amqp.Publishing{MessageId: "poison"}))
			deliveries, err := channel.Consume(queue, "", false, false, false, false, nil)
			require.NoError(t, err)
			for range 2 {
				delivery := <-deliveries
				require.NoError(t, delivery.Nack(false, true))
			}
			letter := receive(t, letters)
			require.Equal(t, topic, letter.Metadata.Get(dedup.MetaDeadTopic))
			letter.Ack()
		})
	}
}
