package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// Name is the broker's name in hapax.yaml.
const Name = "kafka"

// ErrClosed: the broker, publisher or subscriber was closed.
var ErrClosed = errors.New("kafka broker is closed")

// Broker is a connection to a Kafka cluster. Make one with Open; it implements
// adapters.Broker.
type Broker struct {
	config Config
	// client publishes single messages outside of transactions, and carries what admin asks.
	client *kgo.Client
	admin  *kadm.Client
	names  sync.Map // logical name → Kafka's, of topics published to
	topics sync.Map // Kafka name → number of partitions, of topics known to exist
	// letters are the Kafka names of topics that dead letters were sent to.
	letters *sync.Map
	// transactionsV2: the cluster has KIP-890, which makes partitions part of a
	// transaction by producing to them.
	transactionsV2 bool

	renewals renewals
	loners   loners

	idMemory atomic.Int64
	counters counters

	mu          sync.Mutex
	subscribers map[*subscriber]struct{}
	windows     map[string]time.Duration // of groups with the transaction strategy
	closed      bool
}

var _ adapters.Broker = (*Broker)(nil)

// Open connects. It fails when no broker answers or the credentials are wrong.
func Open(ctx context.Context, config Config) (*Broker, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	letters := new(sync.Map)
	// No linger: while requests are on their way, what concurrent callers publish gathers
	// by itself.
	client, err := config.newPlainProducer(letters, 0)
	if err != nil {
		return nil, fmt.Errorf("open kafka client: %w", err)
	}
	b := &Broker{config: config, client: client, admin: kadm.NewClient(client), letters: letters, subscribers: map[*subscriber]struct{}{}, windows: map[string]time.Duration{}, renewals: renewals{counts: map[string]int{}}}
	features, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, client)
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("connect to kafka at %v: %w: check the addresses, TLS and SASL settings, and that the brokers run", config.Brokers, err)
	}
	for _, feature := range features.FinalizedFeatures {
		if feature.Name == "transaction.version" && feature.MaxVersionLevel >= 2 {
			b.transactionsV2 = true
		}
	}
	return b, nil
}

// Capabilities implements adapters.Broker.
func (b *Broker) Capabilities() adapters.Capabilities {
	return adapters.Capabilities{
		Name:                 Name,
		Strategies:           []string{dedup.StrategyTransaction},
		AtomicCommit:         true,
		ConsumerGroups:       true,
		OrderAcrossConsumers: true,
		Replay:               true,
		MaxPayload:           b.config.MaxPayload,
		Why: map[string]string{
			"AtomicSQL":          "a Kafka transaction holds no SQL; use the inbox strategy with an sql block",
			"BrokerDeduplicates": "the idempotent producer drops what its own retries repeat, not what is sent twice",
		},
	}
}

// Publisher implements adapters.Broker.
func (b *Broker) Publisher() message.Publisher { return &publisher{broker: b} }

// Subscriber implements adapters.Broker.
func (b *Broker) Subscriber(subscription adapters.Subscription) (message.Subscriber, error) {
	if subscription.Group == "" {
		return nil, errors.New("open kafka subscriber: the subscription has no group")
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

// window is how long the IDs of a group are remembered; zero when no strategy was
// opened for it (yet).
func (b *Broker) window(group string) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.windows[group]
}

// Ping implements adapters.Broker.
func (b *Broker) Ping(ctx context.Context) error {
	if err := b.client.Ping(ctx); err != nil {
		return fmt.Errorf("ping kafka at %v: %w", b.config.Brokers, err)
	}
	return nil
}

// Close closes the subscribers, which drain, and then the connections. What is being
// published outside of transactions by then fails.
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
	b.closeLoners()
	b.client.Close()
	return errors.Join(errs...)
}

func (b *Broker) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}
