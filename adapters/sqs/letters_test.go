package sqs_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// A letter is sent under a deduplication ID of its own. What another program's message
// had for one, and was its event's ID, stays that.
func TestALetterKeepsTheProducersID(t *testing.T) {
	t.Parallel()
	config := local(t)
	config.FIFO = true
	broker, topic := open(t, config), newTopic()
	join := func(topic string, limit int) <-chan *message.Message {
		subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", MaxDeliveries: limit})
		require.NoError(t, err)
		messages, err := subscriber.Subscribe(t.Context(), topic)
		require.NoError(t, err)
		return messages
	}
	messages, letters := join(topic, 1), join(dedup.DeadLetterTopic(topic), -1)
	name, err := config.QueueName(topic)
	require.NoError(t, err)
	client := raw(t, config)
	queue, err := client.GetQueueUrl(t.Context(), &awssqs.GetQueueUrlInput{QueueName: &name})
	require.NoError(t, err)
	_, err = client.SendMessage(t.Context(), &awssqs.SendMessageInput{
		QueueUrl: queue.QueueUrl, MessageBody: aws.String("x"), MessageGroupId: aws.String("key"), MessageDeduplicationId: aws.String("theirs"),
	})
	require.NoError(t, err)
	receive(t, messages).Nack()
	letter := receive(t, letters)
	defer letter.Ack()
	id, _, err := dedup.Identity{}.Find(letter)
	require.NoError(t, err)
	require.Equal(t, "theirs", id)
}

// To look for letters where none were ever sent makes no queue, and is no error.
func TestNoQueueNoLetters(t *testing.T) {
	t.Parallel()
	for _, create := range []bool{false, true} {
		config := local(t)
		config.Create = create
		broker, topic := open(t, config), newTopic()
		require.NoError(t, broker.Letters(t.Context(), topic, func(*message.Message) (bool, error) { return false, nil }))
		name, err := config.QueueName(topic)
		require.NoError(t, err)
		_, err = raw(t, config).GetQueueUrl(t.Context(), &awssqs.GetQueueUrlInput{QueueName: &name})
		require.ErrorContains(t, err, "QueueDoesNotExist")
	}
}
