package framework

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework/config"
)

// Letter is a dead letter: an event that could not be processed, and why.
type Letter struct {
	// EventID is the event's identity; "" when it has none, which may be the reason.
	EventID string `json:"event_id"`
	// Topic is where the event came from, and Position its place there.
	Topic    string `json:"topic"`
	Position string `json:"position,omitempty"`
	// Service and Handler could not process it. Both are empty when the broker gave
	// the event up, and does not tell for whom: an adapter does, for a group of this
	// config's service, and a RabbitMQ that dead-letters by itself does not.
	Service string `json:"service,omitempty"`
	Handler string `json:"handler,omitempty"`
	// Reason is why, in a word or two; Error and Stack are the handler's.
	Reason   string `json:"reason,omitempty"`
	Error    string `json:"error,omitempty"`
	Stack    string `json:"stack,omitempty"`
	Attempts string `json:"attempts,omitempty"`
	// At is when it was given up: RFC 3339.
	At string `json:"at,omitempty"`

	message *message.Message
	source  dedup.Source // of EventID
}

// Message is the letter as it is on its topic.
func (l *Letter) Message() *message.Message { return l.message }

// readLetter finds the event ID as handlers do. One that a handler buried has it in the
// metadata; a letter of an adapter, which knows of no identity, has what the event had.
func readLetter(msg *message.Message, origin, service string, identity dedup.Identity) *Letter {
	meta := msg.Metadata.Get
	l := &Letter{
		Topic: meta(dedup.MetaDeadTopic), Position: meta(dedup.MetaDeadPosition),
		Service: meta(dedup.MetaDeadService), Handler: meta(dedup.MetaDeadHandler),
		Reason: meta(dedup.MetaDeadReason), Error: meta(dedup.MetaDeadError), Stack: meta(dedup.MetaDeadStack),
		Attempts: meta(dedup.MetaDeadAttempts), At: meta(dedup.MetaDeadAt), message: msg,
	}
	l.EventID, l.source, _ = identity.Find(msg)
	if handler, own := strings.CutPrefix(meta(dedup.MetaDeadGroup), service+"."); own && l.Service == "" {
		l.Service, l.Handler = service, handler // a group is called after both
	}
	if l.Topic == "" {
		l.Topic = origin
	}
	return l
}

// event is the event as it was before it died, marked as an operator's replay. Handlers
// find its ID where they did before, each by its own rule. Only the broker's field does
// not travel, so its ID goes into the metadata. Another one there, such as the UUID,
// would outrank what a handler goes by: the event would be a new one to it.
func (l *Letter) event(now time.Time) *message.Message {
	msg := l.message.Copy()
	for name := range msg.Metadata {
		if strings.HasPrefix(name, "hapax_dead_") {
			delete(msg.Metadata, name)
		}
	}
	if l.source == dedup.SourceBroker {
		msg.Metadata.Set(dedup.MetaEventID, l.EventID)
	}
	delete(msg.Metadata, dedup.MetaBrokerID)
	msg.Metadata.Set(dedup.MetaReplayedAt, now.UTC().Format(time.RFC3339Nano))
	return msg
}

// Operator looks after the events of a config's broker from outside of a service.
// Make one with NewOperator, and close it.
type Operator struct {
	config *config.Config
	broker adapters.Broker
	names  topicNames
	logger *slog.Logger
	marks  map[dedup.Scope]*markReader
}

// NewOperator connects to the broker.
func NewOperator(ctx context.Context, cfg *config.Config, logger *slog.Logger) (*Operator, error) {
	broker, err := OpenBroker(ctx, cfg, logger)
	if err != nil {
		return nil, fmt.Errorf("open broker %s: %w", cfg.Broker, err)
	}
	return &Operator{config: cfg, broker: broker, names: topicNamesOf(cfg), logger: logger, marks: map[dedup.Scope]*markReader{}}, nil
}

// Close closes the connections.
func (o *Operator) Close() error {
	var errs []error
	for _, reader := range o.marks {
		errs = append(errs, reader.close())
	}
	return errors.Join(append(errs, o.broker.Close())...)
}

// Publish sends messages to a topic, by its logical name.
func (o *Operator) Publish(topic string, messages ...*message.Message) error {
	return namedPublisher{o.broker.Publisher(), o.names}.Publish(topic, messages...)
}

// EventID is the identity of a message by the rule of the config; "" when it has none.
// A handler may have a rule of its own, which the operator does not know.
func (o *Operator) EventID(msg *message.Message) string {
	id, _, _ := identityOf(o.config).Find(msg)
	return id
}

// Browse is adapters.Browser.Browse on the config's broker.
func (o *Operator) Browse(ctx context.Context, topic string, options adapters.Browse, each func(*message.Message) error) error {
	browser, can := o.broker.(adapters.Browser)
	if !can {
		return fmt.Errorf("read topic %q: %w: the adapter of broker %s does not offer it", topic, adapters.ErrNotBrowsable, o.config.Broker)
	}
	return browser.Browse(ctx, o.names.of(topic), options, each)
}

// LetterTopic is the dead-letter topic of a topic. A name that is one already stays;
// origin is then "" where several topics have it for theirs.
func (o *Operator) LetterTopic(topic string) (letters, origin string) {
	origin, is := strings.CutSuffix(topic, dedup.DeadLetterTopic(""))
	for buried, settings := range o.config.Topics {
		switch {
		case settings.DeadLetter != topic || buried == origin:
		case is:
			origin = ""
		default:
			is, origin = true, buried
		}
	}
	if is {
		return topic, origin
	}
	return letterTopic(o.config, topic), topic
}

// SharesLetters reports whether the dead letters of a topic may lie among those of others:
// it has its letters' topic from the config, or another one has its own there.
func (o *Operator) SharesLetters(topic string) bool {
	place := o.names.of(letterTopic(o.config, topic))
	for other := range o.config.Topics {
		if other != topic && o.names.of(letterTopic(o.config, other)) == place {
			return true
		}
	}
	return o.config.Topics[topic].DeadLetter != ""
}

// Letters hands the dead letters of a topic to visit, oldest first, and removes
// those that it wants removed. See adapters.LetterBox. Of a dead-letter topic that
// topics may share, those of the one that is named; all by its own name.
func (o *Operator) Letters(ctx context.Context, topic string, visit func(*Letter) (remove bool, err error)) error {
	box, can := o.broker.(adapters.LetterBox)
	if !can {
		return fmt.Errorf("read dead letters of %q: the adapter of broker %s does not offer it", topic, o.config.Broker)
	}
	letters, origin := o.LetterTopic(topic)
	shared := letters != topic && o.SharesLetters(topic)
	identity := identityOf(o.config)
	return box.Letters(ctx, o.names.of(letters), func(msg *message.Message) (bool, error) {
		letter := readLetter(msg, origin, o.config.Service, identity)
		if shared && o.topic(letter) != topic {
			return false, nil
		}
		return visit(letter)
	})
}

// Requeue puts a letter's event back on the topic it came from, under its identity,
// and says what is known to have committed of it. It returns when the broker has
// stored the event; then the letter can be removed. Killed in between, both are
// there, and the marks see through the copy.
//
// An event of which all had committed is still put back: other handlers of the
// topic may not have processed it, and those that have, drop it.
func (o *Operator) Requeue(ctx context.Context, letter *Letter) (Committed, error) {
	committed := o.Committed(ctx, letter)
	if err := o.Publish(o.topic(letter), letter.event(time.Now())); err != nil {
		return committed, fmt.Errorf("put event %q back on topic %q: %w", letter.EventID, letter.Topic, err)
	}
	return committed, nil
}

// topic is the logical topic that a letter's event came from. A handler wrote down that
// one; adapters that give a message up know the broker's name only.
func (o *Operator) topic(letter *Letter) string {
	if letter.message.Metadata.Get(dedup.MetaDeadService) != "" {
		return letter.Topic
	}
	for logical, name := range o.names {
		if name == letter.Topic {
			return logical
		}
	}
	return letter.Topic
}
