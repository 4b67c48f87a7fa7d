// Package plain opens the official Watermill adapter on the queues of a
// configuration of package sqs, for comparisons with it.
package plain

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	official "github.com/ThreeDotsLabs/watermill-aws/sqs"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/hapax-go/hapax/adapters/sqs"
	"github.com/hapax-go/hapax/dedup"
)

// Emulator is a configuration for an emulator, which knows no credentials, where the
// SDK insists on some.
func Emulator(endpoint string) sqs.Config {
	return sqs.Config{Endpoint: endpoint, Credentials: credentials.NewStaticCredentialsProvider("emulator", "emulator", ""), Create: true}
}

// Ends are the official adapter's.
type Ends struct {
	config sqs.Config
	aws    aws.Config
}

// Open reads the AWS configuration; nothing is connected yet. Requests go through the
// configuration's HTTPClient, if there is one.
func Open(ctx context.Context, config sqs.Config) (*Ends, error) {
	options := []func(*awsconfig.LoadOptions) error{}
	if config.Region != "" {
		options = append(options, awsconfig.WithRegion(config.Region))
	}
	if config.Credentials != nil {
		options = append(options, awsconfig.WithCredentialsProvider(config.Credentials))
	}
	loaded, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("read AWS configuration: %w", err)
	}
	if loaded.Region == "" {
		loaded.Region = "us-east-1"
	}
	if config.Endpoint != "" {
		loaded.BaseEndpoint = aws.String(config.Endpoint)
	}
	if config.HTTPClient != nil {
		loaded.HTTPClient = config.HTTPClient
	}
	return &Ends{config: config, aws: loaded}, nil
}

// Publisher opens a publisher. To FIFO queues it sends with the UUID as the
// deduplication ID and the key as the group.
func (e *Ends) Publisher() (message.Publisher, error) {
	config := official.PublisherConfig{AWSConfig: e.aws, DoNotCreateQueueIfNotExists: !e.config.Create, CreateQueueConfig: e.attributes()}
	if e.config.FIFO {
		config.GenerateSendMessageInput = func(_ context.Context, url official.QueueURL, msg *types.Message) (*awssqs.SendMessageInput, error) {
			uuid := msg.MessageAttributes[official.UUIDAttribute].StringValue
			group := uuid
			if key, found := msg.MessageAttributes[dedup.MetaKey]; found {
				group = key.StringValue
			}
			return &awssqs.SendMessageInput{
				QueueUrl: aws.String(string(url)), MessageBody: msg.Body, MessageAttributes: msg.MessageAttributes,
				MessageDeduplicationId: uuid, MessageGroupId: group,
			}, nil
		}
	}
	publisher, err := official.NewPublisher(config, watermill.NopLogger{})
	return named{publisher: publisher, config: e.config}, err
}

// Subscriber opens a subscriber. It waits for messages as long as the configuration
// says, if it says so.
func (e *Ends) Subscriber() (message.Subscriber, error) {
	config := official.SubscriberConfig{AWSConfig: e.aws, DoNotCreateQueueIfNotExists: !e.config.Create, QueueConfigAttributes: e.attributes()}
	if e.config.WaitTime > 0 {
		config.GenerateReceiveMessageInput = func(ctx context.Context, url official.QueueURL) (*awssqs.ReceiveMessageInput, error) {
			input, err := official.GenerateReceiveMessageInputDefault(ctx, url)
			if err == nil {
				input.WaitTimeSeconds = int32(e.config.WaitTime.Seconds())
			}
			return input, err
		}
	}
	subscriber, err := official.NewSubscriber(config, watermill.NopLogger{})
	return named{subscriber: subscriber, config: e.config}, err
}

// attributes are those that package sqs creates queues with.
func (e *Ends) attributes() official.QueueConfigAttributes {
	attributes := official.QueueConfigAttributes{FifoQueue: official.QueueConfigAttributesBool(e.config.FIFO)}
	if visibility := int(e.config.VisibilityTimeout.Seconds()); visibility > 0 {
		attributes.VisibilityTimeout = strconv.Itoa(visibility)
	}
	return attributes
}

// named gives topics the names of their queues.
type named struct {
	publisher  message.Publisher
	subscriber message.Subscriber
	config     sqs.Config
}

// Publish implements message.Publisher. Empty metadata is left out: SQS refuses
// messages with it, and the official adapter does not look.
func (n named) Publish(topic string, messages ...*message.Message) error {
	for _, msg := range messages {
		maps.DeleteFunc(msg.Metadata, func(_, value string) bool { return value == "" })
	}
	name, err := n.config.QueueName(topic)
	if err != nil {
		return err
	}
	return n.publisher.Publish(name, messages...)
}

// Subscribe implements message.Subscriber.
func (n named) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	name, err := n.config.QueueName(topic)
	if err != nil {
		return nil, err
	}
	return n.subscriber.Subscribe(ctx, name)
}

// Close implements message.Publisher and message.Subscriber.
func (n named) Close() error {
	if n.publisher != nil {
		return n.publisher.Close()
	}
	return n.subscriber.Close()
}
