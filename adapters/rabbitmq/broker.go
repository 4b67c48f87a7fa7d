package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// Name is the broker's name in hapax.yaml.
const Name = "rabbitmq"

var (
	// ErrClosed: the broker, publisher or subscriber was closed.
	ErrClosed = errors.New("rabbitmq broker is closed")
	// ErrUnroutable: no queue is bound to the topic's exchange, so RabbitMQ
	// would drop the message. It is worth trying again once a consumer exists.
	ErrUnroutable = errors.New("no queue is bound to the topic's exchange, and RabbitMQ would drop the message: start a consumer of the topic first, which declares its queue, or name its group in rabbitmq.readers")
)

// Broker is a connected server. Make one with Open; it implements
// adapters.Broker.
type Broker struct {
	config     Config
	publishing *link
	consuming  *link

	slots     []slot
	next      atomic.Uint64
	exchanges sync.Map // declared ones, by name
	delays    sync.Map // declared queues of delays, by name

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu          sync.Mutex
	subscribers map[*subscriber]struct{}
	different   map[string]string // queues with other arguments than asked for, and which
	leftovers   map[string]string // queues from before partitions were changed, and what is in them
	closed      bool
}

var _ adapters.Broker = (*Broker)(nil)

// Open connects to the server. Later losses of the connection mend themselves;
// this first attempt is the only one.
func Open(ctx context.Context, config Config) (*Broker, error) {
	uri, err := config.complete()
	if err != nil {
		return nil, err
	}
	b := &Broker{
		config:      config,
		publishing:  newLink("publisher", uri, &config),
		consuming:   newLink("consumer", uri, &config),
		slots:       newSlots(config.Channels),
		subscribers: map[*subscriber]struct{}{},
		different:   map[string]string{},
		leftovers:   map[string]string{},
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	for _, link := range []*link{b.publishing, b.consuming} {
		if _, err := link.get(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("open rabbitmq broker: %w", err), b.Close())
		}
	}
	return b, nil
}

// VHost is the virtual host that the broker is connected to.
func (b *Broker) VHost() string { return b.consuming.uri.Vhost }

// Capabilities implements adapters.Broker.
func (b *Broker) Capabilities() adapters.Capabilities {
	capabilities := adapters.Capabilities{
		Name:                 Name,
		ConsumerGroups:       true,
		OrderAcrossConsumers: b.config.SingleActiveConsumer || b.config.Partitions > 0,
		MaxPayload:           b.config.MaxPayload,
		Why: map[string]string{
			"Strategies":         "RabbitMQ has nothing that could mark an event together with its acknowledgement: " + dedup.StrategyMessageID + " keeps the marks in a ledger",
			"AtomicCommit":       "outputs, mark and acknowledgement are three steps, in that order",
			"AtomicSQL":          "the broker and the database do not share a transaction",
			"Replay":             "a queue gets what is published after it was declared; a topic without any queue refuses messages",
			"BrokerDeduplicates": "RabbitMQ stores a message as often as it is sent",
		},
	}
	if !capabilities.OrderAcrossConsumers {
		capabilities.Why["OrderAcrossConsumers"] = "a queue deals its messages to all members of the group, whatever their key; ordering: partition makes one member active at a time"
	}
	return capabilities
}

// Publisher implements adapters.Broker.
func (b *Broker) Publisher() message.Publisher { return &publisher{broker: b} }

// Subscriber implements adapters.Broker.
func (b *Broker) Subscriber(subscription adapters.Subscription) (message.Subscriber, error) {
	if subscription.Group == "" {
		return nil, errors.New("open rabbitmq subscriber: the subscription has no group")
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

// Strategy implements adapters.Broker. There is none: message-id is a ledger's.
func (b *Broker) Strategy(name string, _ adapters.StrategyOptions) (dedup.Strategy, error) {
	return nil, fmt.Errorf("%w: rabbitmq, %q", adapters.ErrNoStrategy, name)
}

// Ping implements adapters.Broker. A server that has blocked publishing (memory
// or disk alarm) is reported: the service cannot commit outputs until it ends.
func (b *Broker) Ping(ctx context.Context) error {
	for _, link := range []*link{b.publishing, b.consuming} {
		if b.publishing.blockedBecause() != "" { // and may not answer
			return fmt.Errorf("ping rabbitmq: %w", b.blockedError())
		}
		if err := link.ping(ctx); err != nil {
			return fmt.Errorf("ping rabbitmq: %w", err)
		}
	}
	return nil
}

// Close closes the subscribers, which drain, and then the connections.
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
	errs := make([]error, len(subscribers), len(subscribers)+2)
	for i, s := range subscribers {
		closing.Go(func() { errs[i] = s.Close() })
	}
	closing.Wait()
	b.cancel()
	return errors.Join(append(errs, b.publishing.close(), b.consuming.close())...)
}

func (b *Broker) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}
