package sqs_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqs"
	"github.com/hapax-go/hapax/dedup"
)

func subscribe(t *testing.T, broker *sqs.Broker, topic, group string) error {
	t.Helper()
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: group})
	require.NoError(t, err)
	_, err = subscriber.Subscribe(t.Context(), topic)
	return err
}

func TestMissingQueue(t *testing.T) {
	config := local(t)
	config.Create = false
	broker, topic := open(t, config), newTopic()
	name, err := config.QueueName(topic)
	require.NoError(t, err)
	for _, err := range []error{
		broker.Publisher().Publish(topic, event("event", "")),
		subscribe(t, broker, topic, "group"),
	} {
		require.ErrorContains(t, err, topic)
		require.ErrorContains(t, err, name)
		require.ErrorContains(t, err, "set create: true")
		require.NotErrorIs(t, err, dedup.ErrBadOutput, "somebody may create it yet")
	}
}

func TestImpossibleTopicIsABadOutput(t *testing.T) {
	broker := open(t, local(t))
	for _, topic := range []string{"", strings.Repeat("long", 30)} {
		require.ErrorIs(t, broker.Publisher().Publish(topic, event("event", "")), dedup.ErrBadOutput)
	}
	err := broker.Publisher().Publish(newTopic(), message.NewMessage("uuid", bytes.Repeat([]byte("x"), 300_000)))
	require.ErrorIs(t, err, dedup.ErrBadOutput)
	require.ErrorContains(t, err, "300000")
}

// Two handlers on one queue would each miss what the other gets.
func TestOneGroupForEachQueue(t *testing.T) {
	broker, topic := open(t, local(t)), newTopic()
	require.NoError(t, subscribe(t, broker, topic, "fulfilment"))
	require.NoError(t, subscribe(t, broker, topic, "fulfilment"))
	err := subscribe(t, broker, topic, "audit")
	require.ErrorContains(t, err, "fulfilment")
	require.ErrorContains(t, err, "SNS")
}

func TestQueueSettings(t *testing.T) {
	var log bytes.Buffer
	config := local(t)
	config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	broker, client := open(t, config), raw(t, config)
	create := func(topic, maxReceiveCount string) {
		name, err := config.QueueName(topic)
		require.NoError(t, err)
		dead, err := client.CreateQueue(t.Context(), &awssqs.CreateQueueInput{QueueName: aws.String(name + "-letters")})
		require.NoError(t, err)
		found, err := client.GetQueueAttributes(t.Context(), &awssqs.GetQueueAttributesInput{QueueUrl: dead.QueueUrl, AttributeNames: []types.QueueAttributeName{"QueueArn"}})
		require.NoError(t, err)
		_, err = client.CreateQueue(t.Context(), &awssqs.CreateQueueInput{QueueName: &name, Attributes: map[string]string{
			"RedrivePolicy": `{"deadLetterTargetArn":"` + found.Attributes["QueueArn"] + `","maxReceiveCount":` + maxReceiveCount + `}`,
		}})
		require.NoError(t, err)
	}
	once, seldom := newTopic(), newTopic()
	create(once, "1")
	create(seldom, "5")
	require.ErrorContains(t, subscribe(t, broker, once, "group"), "maxReceiveCount 1")
	require.NoError(t, subscribe(t, broker, seldom, "group"))
	require.Contains(t, log.String(), "raise maxReceiveCount above max_deliveries")
	// Whoever has asked, and goes on all the same, is let.
	problems := problems(broker.Checks(t.Context(), []adapters.Use{{Topic: once, MaxDeliveries: 20}, {Topic: seldom, MaxDeliveries: 4}}))
	require.Equal(t, []string{"sqs-redrive fatal", "sqs-retention", "sqs-retention"}, problems, "the server of the tests does not say how long it keeps messages")
	require.NoError(t, subscribe(t, broker, once, "group"))
}

func problems(findings []adapters.Finding) (names []string) {
	for _, f := range findings {
		switch {
		case f.OK():
		case f.Fatal:
			names = append(names, f.Name+" fatal")
		default:
			names = append(names, f.Name)
		}
	}
	return names
}

// Looking makes nothing.
func TestChecksOfMissingQueues(t *testing.T) {
	config := local(t)
	config.Create = false
	broker, topic := open(t, config), newTopic()
	uses := []adapters.Use{{Topic: topic, DeadLetter: dedup.DeadLetterTopic(topic)}, {Topic: strings.Repeat("long", 30)}}
	for range 2 {
		findings := broker.Checks(t.Context(), uses)
		require.Equal(t, []string{"sqs-queue fatal", "sqs-queue", "sqs-queue fatal"}, problems(findings))
		require.Contains(t, findings[0].Fix, "sqs.create: true")
	}
	config.Create = true
	findings := open(t, config).Checks(t.Context(), uses[:1])
	require.Empty(t, problems(findings))
	require.Equal(t, "missing; sqs.create makes it", findings[0].Found)
	require.ErrorContains(t, subscribe(t, broker, topic, "group"), "create it, or set create: true")
}

// amazon adds what the server of the tests does not say, and Amazon does: how long
// a queue keeps its messages.
type amazon struct{ http.RoundTripper }

func (a amazon) Do(request *http.Request) (*http.Response, error) {
	response, err := a.RoundTrip(request)
	if err != nil || !strings.HasSuffix(request.Header.Get("X-Amz-Target"), "GetQueueAttributes") {
		return response, err
	}
	defer response.Body.Close()
	body := `{"Attributes":{"MessageRetentionPeriod":"345600"}}`
	response.Body, response.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	return response, nil
}

func TestWindowShorterThanRetention(t *testing.T) {
	var log bytes.Buffer
	config, transport := local(t), http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	config.Logger, config.HTTPClient = slog.New(slog.NewTextHandler(&log, nil)), amazon{transport}
	config.DedupWindow = 5 * 24 * time.Hour
	require.NoError(t, subscribe(t, open(t, config), newTopic(), "group"))
	require.NotContains(t, log.String(), "sqs-retention")
	config.DedupWindow = time.Hour
	require.NoError(t, subscribe(t, open(t, config), newTopic(), "group"))
	require.Contains(t, log.String(), "the queue keeps messages longer (96h0m0s) than dedup.window remembers events (1h0m0s)")
}

func TestConfigurationErrors(t *testing.T) {
	for what, config := range map[string]sqs.Config{
		"whole seconds from 1s to 12h": {VisibilityTimeout: 1500 * time.Millisecond},
		"up to 20s":                    {WaitTime: time.Minute},
		"queue prefix":                 {QueuePrefix: "a.b"},
		"none negative":                {Workers: -1},
	} {
		_, err := sqs.Open(t.Context(), config)
		require.ErrorContains(t, err, what)
	}
}

// Nobody listens there, and what is said of it gives no secret away.
func TestServiceIsDown(t *testing.T) {
	t.Parallel()
	_, err := sqs.Open(t.Context(), sqs.Config{
		Endpoint: "http://127.0.0.1:1", Credentials: credentials.NewStaticCredentialsProvider("AKIDKEY", "hush-hush", "token"),
	})
	require.ErrorContains(t, err, "http://127.0.0.1:1")
	require.ErrorContains(t, err, "check endpoint and network")
	require.NotContains(t, err.Error(), "hush")
}

// refuse answers every request as AWS does when it does not know the key.
type refuse struct{}

func (refuse) Do(request *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusForbidden, Request: request, Header: http.Header{"X-Amzn-Errortype": {"UnrecognizedClientException"}},
		Body: http.NoBody,
	}, nil
}

func TestWrongCredentials(t *testing.T) {
	config := sqs.Config{Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("AKIDKEY", "hush-hush", "token"), HTTPClient: refuse{}}
	_, err := sqs.Open(t.Context(), config)
	require.ErrorContains(t, err, "the service does not know these credentials")
	require.ErrorContains(t, err, "region eu-west-1")
	require.NotContains(t, err.Error(), "hush")
}

// Other programs label the types of their attributes (Number.java.lang.Long, say), which
// SQS allows. They are what they are without the label.
func TestLabelledAttributes(t *testing.T) {
	t.Parallel()
	config := local(t)
	broker, topic := open(t, config), newTopic()
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group"})
	require.NoError(t, err)
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	name, err := config.QueueName(topic)
	require.NoError(t, err)
	client := raw(t, config)
	url, err := client.GetQueueUrl(t.Context(), &awssqs.GetQueueUrlInput{QueueName: &name})
	require.NoError(t, err)
	_, err = client.SendMessage(t.Context(), &awssqs.SendMessageInput{
		QueueUrl: url.QueueUrl, MessageBody: aws.String("body"), MessageAttributes: map[string]types.MessageAttributeValue{
			dedup.MetaEventID: {DataType: aws.String("Number.java.lang.Long"), StringValue: aws.String("7")},
			dedup.MetaKey:     {DataType: aws.String("String.uuid"), StringValue: aws.String("key")},
			"picture":         {DataType: aws.String("Binary.png"), BinaryValue: []byte("png")},
		},
	})
	require.NoError(t, err)
	msg := receive(t, messages)
	require.Equal(t, "7", msg.Metadata.Get(dedup.MetaEventID))
	require.Equal(t, "key", msg.Metadata.Get(dedup.MetaKey))
	require.Equal(t, "png", msg.Metadata.Get("picture"))
	msg.Ack()
	require.NoError(t, subscriber.Close())
}
