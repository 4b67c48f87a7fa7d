package framework

import (
	"context"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework/config"
)

// topicNames maps logical topics to the names that the topics block gives them.
// Handlers, keys of identity and metrics know logical names only, so that a
// topic can be renamed at the broker without becoming another one.
type topicNames map[string]string

func (s *Service) topicNames() topicNames { return topicNamesOf(s.config) }

func topicNamesOf(cfg *config.Config) topicNames {
	names := topicNames{}
	for topic, settings := range cfg.Topics {
		if settings.Name != "" {
			names[topic] = settings.Name
		}
	}
	return names
}

func (n topicNames) of(topic string) string {
	if name, renamed := n[topic]; renamed {
		return name
	}
	// Dead letters follow their topic, so that who looks at the broker finds them
	// beside it.
	if buried, dead := strings.CutSuffix(topic, dedup.DeadLetterTopic("")); dead && n[buried] != "" {
		return dedup.DeadLetterTopic(n[buried])
	}
	return topic
}

// letterTopic is the logical name of the topic of a topic's dead letters. Handlers,
// adapters, checks and operators all have it from here.
func letterTopic(cfg *config.Config, topic string) string {
	if own := cfg.Topics[topic].DeadLetter; own != "" {
		return own
	}
	return dedup.DeadLetterTopic(topic)
}

type namedPublisher struct {
	message.Publisher
	names topicNames
}

// Publish implements message.Publisher.
func (p namedPublisher) Publish(topic string, messages ...*message.Message) error {
	return p.Publisher.Publish(p.names.of(topic), messages...)
}

type namedSubscriber struct {
	message.Subscriber
	names topicNames
}

// Subscribe implements message.Subscriber.
func (s namedSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	return s.Subscriber.Subscribe(ctx, s.names.of(topic))
}

// namedStrategy renames what a strategy publishes.
type namedStrategy struct {
	dedup.Strategy
	names topicNames
}

// Claim implements dedup.Strategy.
func (s namedStrategy) Claim(ctx context.Context, events []*dedup.Event) (dedup.Claim, error) {
	claim, err := s.Strategy.Claim(ctx, events)
	if claim == nil || err != nil {
		return nil, err
	}
	return namedClaim{claim, s.names}, nil
}

// Expect implements dedup.Expecter.
func (s namedStrategy) Expect(id dedup.ID) { expect(s.Strategy, id) }

// expect passes on what a strategy's wrappers hear, if it wants to hear it.
func expect(strategy dedup.Strategy, id dedup.ID) {
	if expecter, is := strategy.(dedup.Expecter); is {
		expecter.Expect(id)
	}
}

// DeadLetter implements dedup.Strategy.
func (s namedStrategy) DeadLetter(ctx context.Context, event *dedup.Event, letter dedup.Output) error {
	letter.Topic = s.names.of(letter.Topic)
	return s.Strategy.DeadLetter(ctx, event, letter)
}

type namedClaim struct {
	dedup.Claim
	names topicNames
}

// Commit implements dedup.Claim.
func (c namedClaim) Commit(ctx context.Context, outputs []dedup.Output) error {
	for i := range outputs {
		outputs[i].Topic = c.names.of(outputs[i].Topic)
	}
	return c.Claim.Commit(ctx, outputs)
}
