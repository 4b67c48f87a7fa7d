package adapters

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
)

// Broker is a connected message broker. The framework opens one per service;
// closing it closes every publisher and subscriber made from it.
type Broker interface {
	// Capabilities says what this broker can do, as data.
	Capabilities() Capabilities

	// Publisher returns the shared publisher. Publish returns once the broker
	// has made the messages durable; an error means that some may not be.
	Publisher() message.Publisher

	// Subscriber opens a consumer of a group. Its channels carry many
	// unacknowledged messages at once, in order per key.
	Subscriber(Subscription) (message.Subscriber, error)

	// Strategy returns the broker's own strategy by its name in the rules
	// table, for one scope. ErrNoStrategy when the broker has none of that name:
	// the rules table then asks for a ledger.
	Strategy(name string, options StrategyOptions) (dedup.Strategy, error)

	// Check looks for what would make the guarantees false, before the service
	// takes its first message.
	Check(ctx context.Context) []Finding

	// Ping reports whether the broker answers now; it feeds /readyz.
	Ping(ctx context.Context) error

	// Close drains nothing: subscribers are closed, and drained, by the Router
	// first.
	Close() error
}

// Subscription configures a consumer.
type Subscription struct {
	// Group is the consumer group: members share the topic's messages, groups
	// each see all of them.
	Group string
	// Window bounds the deliveries handed out and not yet acknowledged.
	// Default 1000.
	Window int
	// Ordering says which deliveries wait for each other. Default OrderByKey.
	Ordering Ordering
	// MaxDeliveries sends a message to the dead-letter topic that was handed out
	// this often and never acknowledged (it may be what kills its consumer).
	// Where the message was not to blame, Delivery.Excuse keeps it from counting.
	// Default 20; negative: no limit.
	MaxDeliveries int
	// DeadLetter is the topic of the letters, as Publisher's Publish takes it: where
	// a config has another name for it, the name at the broker.
	// Default: dedup.DeadLetterTopic of the topic that is subscribed to.
	DeadLetter string
	// RedeliveryDelay is the pause before a nacked message is handed out again
	// when the handler did not ask for another. Default 100ms; negative: none.
	RedeliveryDelay time.Duration
	// DrainTimeout bounds how long Close waits for messages handed out.
	// Default 30s; negative: it does not wait.
	DrainTimeout time.Duration
}

// WithDefaults returns the subscription with every zero field filled in.
func (s Subscription) WithDefaults() Subscription {
	if s.Window <= 0 {
		s.Window = 1000
	}
	if s.Ordering == "" {
		s.Ordering = OrderByKey
	}
	if s.MaxDeliveries == 0 {
		s.MaxDeliveries = 20
	}
	if s.RedeliveryDelay == 0 {
		s.RedeliveryDelay = 100 * time.Millisecond
	}
	if s.DrainTimeout == 0 {
		s.DrainTimeout = 30 * time.Second
	}
	return s
}

// LetterTopic is where what the subscription gives up of a topic goes.
func (s Subscription) LetterTopic(topic string) string {
	if s.DeadLetter != "" {
		return s.DeadLetter
	}
	return dedup.DeadLetterTopic(topic)
}

// Ordering says which deliveries of a subscription wait for each other.
type Ordering string

const (
	// OrderByKey: equal keys one at a time, in order; all else concurrently.
	OrderByKey Ordering = "key"
	// OrderByPartition: the broker's own order, one at a time per partition.
	OrderByPartition Ordering = "partition"
	// Unordered: everything concurrently.
	Unordered Ordering = "none"
)

// StrategyOptions configure a broker's own strategy for one scope.
type StrategyOptions struct {
	Scope dedup.Scope
	// Group is the consumer group the scope's subscription uses.
	Group string
	// Window is how long a mark lasts.
	Window time.Duration
	// Claim is the kind of claim; empty means the strategy's own default.
	Claim dedup.ClaimKind
}

// Finding is one answer of a start-up check.
type Finding struct {
	// Name names the check; config can allow a finding by it.
	Name string
	// About names the topic, queue or server that was looked at; empty: the
	// broker as a whole.
	About string
	// Fatal: the guarantee is false if the service starts.
	Fatal bool
	// Problem says what was found and expected; Fix says what to do. Both are
	// empty when all is in order; Found then says what was found.
	Problem, Fix, Found string
}
