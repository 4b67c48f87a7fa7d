package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// Name is the broker's name in hapax.yaml.
const Name = "redis"

// ErrClosed: the broker, publisher or subscriber was closed.
var ErrClosed = errors.New("redis broker is closed")

// Broker is a connection to Redis. Make one with Open; it implements
// adapters.Broker.
type Broker struct {
	config       Config
	client       redis.UniversalClient
	losses       atomic.Int64
	publications batcher[*publication]
	unread       sync.Map // topic and group of losses reported

	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	background sync.WaitGroup

	mu          sync.Mutex
	subscribers map[*subscriber]struct{}
	closed      bool
	frozen      atomic.Bool // tests: no heartbeats
}

var _ adapters.Broker = (*Broker)(nil)

// Open connects and checks that the server answers.
func Open(ctx context.Context, config Config) (*Broker, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	b := &Broker{config: config, client: newClient(config), subscribers: map[*subscriber]struct{}{}}
	b.publications.run, b.publications.limit = b.publishAll, publishBatch
	if err := b.Ping(ctx); err != nil {
		return nil, errors.Join(err, b.client.Close())
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b, nil
}

// Capabilities implements adapters.Broker.
func (b *Broker) Capabilities() adapters.Capabilities {
	return adapters.Capabilities{
		Name:                 Name,
		Strategies:           []string{dedup.StrategyXAck},
		AtomicCommit:         b.config.Mode != Cluster,
		ConsumerGroups:       true,
		OrderAcrossConsumers: true,
		Replay:               true,
		MaxPayload:           b.config.MaxPayload,
		Why: map[string]string{
			"AtomicCommit":       "in a cluster one step cannot span nodes: outputs to streams of other hash slots are published, under their derived IDs, before the step that marks and acknowledges",
			"AtomicSQL":          "a script of Redis and a transaction of a database cannot commit together: use the inbox strategy",
			"BrokerDeduplicates": "XADD stores an entry as often as it is sent; the marks of the consumer decide",
		},
	}
}

// Publisher implements adapters.Broker.
func (b *Broker) Publisher() message.Publisher { return &publisher{broker: b} }

// Subscriber implements adapters.Broker.
func (b *Broker) Subscriber(subscription adapters.Subscription) (message.Subscriber, error) {
	if subscription.Group == "" {
		return nil, errors.New("open redis subscriber: the subscription has no group")
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

// Ping implements adapters.Broker.
func (b *Broker) Ping(ctx context.Context) error {
	if err := b.client.Ping(ctx).Err(); err != nil {
		return explain(ctx, b.config, err)
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
	errs := make([]error, len(subscribers))
	for i, s := range subscribers {
		closing.Go(func() { errs[i] = s.Close() })
	}
	closing.Wait()
	b.cancel()
	b.background.Wait()
	if err := b.client.Close(); err != nil {
		errs = append(errs, fmt.Errorf("close connections: %w", err))
	}
	return errors.Join(errs...)
}

func (b *Broker) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}
