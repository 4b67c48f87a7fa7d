package sqs_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqs"
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

// lettersQueue has one letter, and does not make it visible again.
type lettersQueue struct {
	given bool
	fault string // the sender's: true or false
}

func (q *lettersQueue) Do(request *http.Request) (*http.Response, error) {
	_, operation, _ := strings.Cut(request.Header.Get("X-Amz-Target"), ".")
	body := `{}`
	switch operation {
	case "GetQueueUrl":
		body = `{"QueueUrl":"http://sqs/queue"}`
	case "ReceiveMessage":
		if !q.given {
			body = `{"Messages":[{"MessageId":"one","ReceiptHandle":"handle","Body":"x","MD5OfBody":"9dd4e461268c8034f5c8564e155c67a6"}]}`
		}
		q.given = true
	case "ChangeMessageVisibilityBatch":
		body = `{"Successful":[],"Failed":[{"Id":"0","Code":"RequestThrottled","Message":"slower","SenderFault":` + q.fault + `}]}`
	}
	return answered(request, body), nil
}

// A letter that stays hidden although it was only looked at: whoever looked hears of it. One
// that somebody has removed meanwhile is not missed.
func TestLettersThatStayHidden(t *testing.T) {
	t.Parallel()
	for fault, told := range map[string]string{
		"false": `give 1 letters back to queue "orders__dead": they stay hidden for up to 5m0s: RequestThrottled: slower`, "true": "",
	} {
		broker, err := sqs.Open(t.Context(), sqs.Config{
			Endpoint: "http://sqs", Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""), HTTPClient: &lettersQueue{fault: fault}, Logger: quiet,
		})
		require.NoError(t, err)
		seen := 0
		err = broker.Letters(t.Context(), "orders.dead", func(*message.Message) (bool, error) { seen++; return false, nil })
		require.Equal(t, 1, seen)
		if told == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, told)
		}
		require.NoError(t, broker.Close())
	}
}

// A command that was killed has left letters hidden: the next one tells, instead of finding
// nothing.
func TestHiddenLettersAreToldOf(t *testing.T) {
	t.Parallel()
	for _, fifo := range []bool{false, true} {
		var log bytes.Buffer
		config := local(t)
		config.FIFO, config.Logger = fifo, slog.New(slog.NewTextHandler(&log, nil))
		broker, topic := open(t, config), newTopic()
		require.NoError(t, broker.Publisher().Publish(topic, message.NewMessage("one", []byte("x")), message.NewMessage("two", []byte("x"))))
		look := func() (seen int) {
			require.NoError(t, broker.Letters(t.Context(), topic, func(*message.Message) (bool, error) { seen++; return false, nil }))
			return seen
		}
		require.Equal(t, 2, look())
		require.NotContains(t, log.String(), "hidden")
		name, err := config.QueueName(topic)
		require.NoError(t, err)
		client := raw(t, config)
		queue, err := client.GetQueueUrl(t.Context(), &awssqs.GetQueueUrlInput{QueueName: &name})
		require.NoError(t, err)
		output, err := client.ReceiveMessage(t.Context(), &awssqs.ReceiveMessageInput{QueueUrl: queue.QueueUrl, VisibilityTimeout: 60})
		require.NoError(t, err)
		require.Len(t, output.Messages, 1)
		require.Equal(t, 1, look())
		require.Contains(t, log.String(), "about 1 more letters are hidden")
	}
}
