package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Name is the broker's name in hapax.yaml.
const Name = "sqlite"

// ErrClosed: the broker, publisher or subscriber was closed.
var ErrClosed = errors.New("sqlite broker is closed")

// Broker is an open file. Make one with Open; it implements adapters.Broker.
type Broker struct {
	config Config
	db     *sql.DB
	group  *inbox.Group
	reads  reads

	publishes *inbox.Batch[*publication]
	fetches   *inbox.Batch[*fetch]
	acks      *inbox.Batch[claimed]
	commits   *inbox.Batch[*commit]
	recounts  *inbox.Batch[recount]

	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	background sync.WaitGroup
	watching   sync.Once
	wakes      wakes
	// frozen stops the heartbeats, for tests.
	frozen atomic.Bool

	mu          sync.Mutex
	subscribers map[*subscriber]struct{}
	marks       map[time.Duration]*marks // by window
	leases      []*dedup.LedgerStrategy
	closed      bool
}

var _ adapters.Broker = (*Broker)(nil)

// Open opens, and creates, the file. Several brokers may have the same file open,
// in one process or in many on the same machine.
func Open(ctx context.Context, config Config) (*Broker, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	db, err := sqldb.OpenSQLite(ctx, config.Path, config.Synchronous)
	if err != nil {
		return nil, err
	}
	// Opening a connection costs more than most queries.
	db.SetMaxIdleConns(8)
	b := &Broker{config: config, db: db, subscribers: map[*subscriber]struct{}{}, marks: map[time.Duration]*marks{}}
	if err = migrate(ctx, db, config.Path); err == nil {
		if err = b.reads.prepare(ctx, db); err != nil {
			err = fmt.Errorf("read tables of %s: %w: they are not as this program made them: restore the file from a backup, or use another", config.Path, err)
		}
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.group = inbox.NewGroup(db, inbox.Config{TurnTimeout: config.TurnTimeout, Logger: config.Logger})
	b.publishes = inbox.NewBatch(b.group, insertPublications)
	b.fetches = inbox.NewBatch(b.group, runFetches)
	b.acks = inbox.NewBatch(b.group, deleteClaimed)
	b.commits = inbox.NewBatch(b.group, runCommits)
	b.recounts = inbox.NewBatch(b.group, storeAttempts)
	b.background.Go(b.sweep)
	return b, nil
}

// DB returns the database of the file, for the service's own tables. Writing
// through it competes with the broker's writer; inside a handler use inbox.Tx.
func (b *Broker) DB() *sql.DB { return b.db }

// Capabilities implements adapters.Broker.
func (b *Broker) Capabilities() adapters.Capabilities {
	return adapters.Capabilities{
		Name:                 Name,
		Strategies:           []string{dedup.StrategyInbox},
		AtomicCommit:         true,
		AtomicSQL:            true,
		ConsumerGroups:       true,
		OrderAcrossConsumers: true,
		Replay:               true,
		MaxPayload:           b.config.MaxPayload,
		Why: map[string]string{
			"BrokerDeduplicates": "a publish is stored as often as it is sent; the marks of the consumer decide",
		},
	}
}

// Publisher implements adapters.Broker.
func (b *Broker) Publisher() message.Publisher { return &publisher{broker: b} }

// Subscriber implements adapters.Broker.
func (b *Broker) Subscriber(subscription adapters.Subscription) (message.Subscriber, error) {
	if subscription.Group == "" {
		return nil, errors.New("open sqlite subscriber: the subscription has no group")
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
	var version int
	if err := b.db.QueryRowContext(ctx, `SELECT version FROM hapax_schema WHERE component = 'broker'`).Scan(&version); err != nil {
		return fmt.Errorf("ping %s: %w", b.config.Path, err)
	}
	return nil
}

// Close closes the subscribers, which drain, and then the file.
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
	errs := make(chan error, len(subscribers))
	for _, s := range subscribers {
		closing.Go(func() { errs <- s.Close() })
	}
	closing.Wait()
	close(errs)
	var failure error
	for err := range errs {
		failure = errors.Join(failure, err)
	}
	for _, leases := range b.leases {
		failure = errors.Join(failure, leases.Close())
	}
	b.cancel()
	b.background.Wait()
	failure = errors.Join(failure, b.group.Close())
	for _, marks := range b.marks {
		marks.close()
	}
	return errors.Join(failure, b.reads.close(), b.db.Close())
}

func (b *Broker) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// millis is a time as the tables have it. Leases are judged by the wall clock of
// the one machine that all users of the file share. When it jumps, somebody may
// take over from the living; that costs a redelivery, and the fence holds.
func millis(t time.Time) int64 { return t.UnixMilli() }

// newOwner draws a consumer's ID: random, so that no consumer of the past or of
// another process ever had it.
func newOwner() int64 {
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails (Go 1.24)
	return int64(binary.LittleEndian.Uint64(seed[:])>>1 | 1)
}
