package outboxtest

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/relay"
)

// Harness is an empty outbox opened for one check. Whoever opens it closes it,
// with t.Cleanup.
type Harness struct {
	// DB is the database, DSN opens it again in another process.
	DB  *sql.DB
	DSN string
	// Outbox is the migrated outbox.
	Outbox outbox.Config
	// OneWriter: transactions that write cannot overlap.
	OneWriter bool
}

// Run runs every check against outboxes that open makes.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	for _, topic := range [][]check{writing, ordering, parking, sharing, waking, keeping} {
		for _, check := range topic {
			t.Run(check.name, func(t *testing.T) {
				check.run(&bench{T: t, Harness: open(t), Broker: &Broker{}})
			})
		}
	}
}

type check struct {
	name string
	run  func(*bench)
}

// bench is a check's outbox and broker, with the few verbs the checks are told in.
type bench struct {
	*testing.T
	Harness
	Broker *Broker
}

// patience bounds every wait: no check takes nearly as long.
const patience = 30 * time.Second

// event returns a message of a key; its ID is its UUID.
func event(id, key string) *message.Message {
	msg := message.NewMessage(id, []byte("payload of "+id))
	if key != "" {
		msg.Metadata.Set(dedup.MetaKey, key)
	}
	return msg
}

// write publishes in a transaction that ends as asked.
func (b *bench) write(commit bool, topic string, messages ...*message.Message) {
	b.Helper()
	tx, err := b.DB.BeginTx(b.Context(), nil)
	require.NoError(b, err)
	b.publish(tx, topic, messages...)
	if commit {
		require.NoError(b, tx.Commit())
	} else {
		require.NoError(b, tx.Rollback())
	}
}

func (b *bench) publish(tx *sql.Tx, topic string, messages ...*message.Message) {
	b.Helper()
	publisher, err := outbox.NewPublisher(b.Context(), tx, b.Outbox)
	require.NoError(b, err)
	require.NoError(b, publisher.Publish(topic, messages...))
	require.NoError(b, publisher.Close())
}

// relay starts a relay with short times; stop waits until it has ended.
func (b *bench) relay(change ...func(*relay.Config)) (r *relay.Relay, stop func()) {
	b.Helper()
	config := relay.Config{
		DB: b.DB, Outbox: b.Outbox, Publisher: b.Broker, Ping: b.Broker.Ping, Lease: time.Second,
		RetryDelay: 5 * time.Millisecond, MaxRetryDelay: 50 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, change := range change {
		change(&config)
	}
	r, err := relay.New(config)
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(b, <-ended)
	})
	b.Cleanup(stop)
	return r, stop
}

// until waits for a condition.
func (b *bench) until(what string, condition func() bool) {
	b.Helper()
	require.Eventually(b, condition, patience, 2*time.Millisecond, what)
}

// expect waits until every one of the IDs was published, and finds no others.
func (b *bench) expect(ids ...string) {
	b.Helper()
	b.until(fmt.Sprintf("%d events are published", len(ids)), func() bool { return len(b.Broker.IDs()) >= len(ids) })
	b.settled()
	want, got := slices.Sorted(slices.Values(ids)), b.Broker.IDs()
	slices.Sort(got)
	require.Equal(b, want, got)
}

// settled waits until nothing waits in the table.
func (b *bench) settled() {
	b.Helper()
	b.until("no row waits", func() bool { return b.status().Waiting == 0 })
}

func (b *bench) table() *relay.Table {
	b.Helper()
	table, err := relay.NewTable(b.DB, b.Outbox)
	require.NoError(b, err)
	return table
}

func (b *bench) status() relay.Status {
	b.Helper()
	status, err := b.table().Status(b.Context())
	require.NoError(b, err)
	return status
}

func (b *bench) count(where string) (n int) {
	b.Helper()
	require.NoError(b, b.DB.QueryRow("SELECT count(*) FROM "+b.Outbox.Dialect.Quote(b.Outbox.Table)+" WHERE "+where).Scan(&n))
	return n
}

// change sets columns of rows behind everybody's back.
func (b *bench) change(set string) {
	b.Helper()
	_, err := b.DB.Exec("UPDATE " + b.Outbox.Dialect.Quote(b.Outbox.Table) + " SET " + set)
	require.NoError(b, err)
}
