package sqs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// Name is the broker's name in hapax.yaml.
const Name = "sqs"

// ErrClosed: the broker, publisher or subscriber was closed.
var ErrClosed = errors.New("sqs broker is closed")

// Broker is a connection to SQS. Make one with Open; it implements
// adapters.Broker.
type Broker struct {
	config     Config
	client     *sqs.Client
	disconnect func()

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	sending sync.WaitGroup // sends on their way

	mu          sync.Mutex
	queues      map[string]*queue      // by topic
	groups      map[string]*membership // of the topics that are subscribed to
	subscribers map[*subscriber]struct{}
	checked     map[string]bool // topics that Checks looked at
	closed      bool
	frozen      atomic.Bool // tests: no heartbeats, nothing given back
}

var _ adapters.Broker = (*Broker)(nil)

// Open connects and checks that the service answers and knows the credentials.
func Open(ctx context.Context, config Config) (*Broker, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	client, disconnect, err := newClient(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open sqs broker: %w", err)
	}
	b := &Broker{
		config: config, client: client, disconnect: disconnect,
		queues: map[string]*queue{}, groups: map[string]*membership{}, subscribers: map[*subscriber]struct{}{}, checked: map[string]bool{},
	}
	if err := b.Ping(ctx); err != nil {
		disconnect()
		return nil, err
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b, nil
}

// Capabilities implements adapters.Broker.
func (b *Broker) Capabilities() adapters.Capabilities {
	order, why := adapters.OrderNever, "a standard queue keeps no order, not even for one consumer: use a FIFO queue"
	if b.config.FIFO {
		order, why = adapters.OrderAlways, "a FIFO queue locks a group while a message of it is in flight"
	}
	return adapters.Capabilities{
		Name:                 Name,
		KeyOrder:             order,
		OrderAcrossConsumers: b.config.FIFO,
		BrokerDeduplicates:   b.config.FIFO,
		MaxPayload:           maxMessage - letterRoom,
		Why: map[string]string{
			"KeyOrder":             why,
			"Strategies":           "SQS has no transactions: dedup-id and consumer are a ledger's strategies",
			"AtomicCommit":         "no request of SQS can send and delete, or remember an ID, in one step: the ledger absorbs what comes again",
			"AtomicSQL":            "a database and SQS cannot commit together: use the inbox strategy",
			"ConsumerGroups":       "a queue gives each message to one consumer, whoever asks: let SNS copy to a queue for each group, or publish to a topic for each",
			"OrderAcrossConsumers": "a standard queue keeps no order at all: use a FIFO queue",
			"Replay":               "a message is deleted once it is processed, and a queue has one group",
			"BrokerDeduplicates":   "a standard queue stores a message as often as it is sent, and may deliver it more often: use a FIFO queue, or let the ledger decide",
		},
	}
}

// Publisher implements adapters.Broker.
func (b *Broker) Publisher() message.Publisher { return &publisher{broker: b} }

// Subscriber implements adapters.Broker.
func (b *Broker) Subscriber(subscription adapters.Subscription) (message.Subscriber, error) {
	if subscription.Group == "" {
		return nil, errors.New("open sqs subscriber: the subscription has no group")
	}
	s := &subscriber{broker: b, subscription: subscription.WithDefaults()}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	b.subscribers[s] = struct{}{}
	return s, nil
}

// Strategy implements adapters.Broker: both strategies of SQS, dedup-id and
// consumer, are a ledger's, which the framework builds.
func (b *Broker) Strategy(name string, _ adapters.StrategyOptions) (dedup.Strategy, error) {
	return nil, fmt.Errorf("%w: %s", adapters.ErrNoStrategy, name)
}

// Check implements adapters.Broker. What can be wrong is wrong with a queue: see
// Checks.
func (b *Broker) Check(context.Context) []adapters.Finding { return nil }

// Close closes the subscribers, which drain, waits for sends on their way, and
// closes the connections.
func (b *Broker) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	subscribers := slices.Collect(maps.Keys(b.subscribers))
	b.mu.Unlock()

	var closing sync.WaitGroup
	errs := make([]error, len(subscribers))
	for i, s := range subscribers {
		closing.Go(func() { errs[i] = s.Close() })
	}
	closing.Wait()
	b.cancel()
	b.sending.Wait()
	b.disconnect()
	return errors.Join(errs...)
}

func (b *Broker) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// membership is a topic's group in this process.
type membership struct {
	group   string
	members int
}

// join makes a group the only one of a topic in this process: two would take each
// other's messages, and each would miss what the other got.
func (b *Broker) join(topic, group string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.groups[topic]
	if m == nil {
		m = &membership{group: group}
		b.groups[topic] = m
	}
	if m.group != group {
		return fmt.Errorf("group %q reads the queue of %q already, and SQS gives each message to one consumer only, so group %q would miss what %[1]q gets: "+
			"let SNS copy to a queue for each, or publish to a topic for each", m.group, topic, group)
	}
	m.members++
	return nil
}

func (b *Broker) leave(topic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m := b.groups[topic]; m.members > 1 {
		m.members--
	} else {
		delete(b.groups, topic)
	}
}
