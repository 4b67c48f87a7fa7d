package sqlite_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqlite"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

const (
	input  = "orders"
	output = "shipments"
	group  = "fulfilment"
)

var quiet = slog.New(slog.DiscardHandler)

func openBroker(t testing.TB, path string, change func(*sqlite.Config)) *sqlite.Broker {
	t.Helper()
	config := sqlite.Config{Path: path, Synchronous: sqldb.Normal, Logger: quiet, LeaseDuration: time.Minute, PollInterval: time.Millisecond}
	if change != nil {
		change(&config)
	}
	broker, err := sqlite.Open(context.Background(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	return broker
}

func file(t testing.TB) string { return filepath.Join(t.TempDir(), "hapax.db") }

func event(id, key string) *message.Message {
	msg := message.NewMessage("uuid-"+id, []byte(id))
	msg.Metadata.Set(dedup.MetaEventID, id)
	if key != "" {
		msg.Metadata.Set(dedup.MetaKey, key)
	}
	return msg
}

func publish(t testing.TB, broker *sqlite.Broker, msgs ...*message.Message) {
	t.Helper()
	require.NoError(t, broker.Publisher().Publish(input, msgs...))
}

// serve runs a service: a Router with the deduplicating middleware around handle.
// The returned function stops it.
func serve(t testing.TB, broker *sqlite.Broker, handle message.HandlerFunc, change func(*adapters.Subscription)) (stop func()) {
	t.Helper()
	return serveKind(t, broker, handle, change, dedup.Optimistic)
}

func serveKind(t testing.TB, broker *sqlite.Broker, handle message.HandlerFunc, change func(*adapters.Subscription), claimKind dedup.ClaimKind) (stop func()) {
	t.Helper()
	subscription := adapters.Subscription{Group: group, RedeliveryDelay: time.Millisecond, DrainTimeout: 5 * time.Second}
	if change != nil {
		change(&subscription)
	}
	subscriber, err := broker.Subscriber(subscription)
	require.NoError(t, err)
	scope := dedup.Scope{Service: "test", Handler: "ship"}
	strategy, err := broker.Strategy(dedup.StrategyInbox, adapters.StrategyOptions{Scope: scope, Group: group, Window: time.Hour, Claim: claimKind})
	require.NoError(t, err)
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy})
	require.NoError(t, err)
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	require.NoError(t, err)
	router.AddHandler("ship", input, subscriber, output, broker.Publisher(), handle).AddMiddleware(middleware.Wrap)
	ended := make(chan error, 1)
	go func() { ended <- router.Run(context.Background()) }()
	<-router.Running()
	return func() {
		require.NoError(t, router.Close())
		require.NoError(t, <-ended)
	}
}

// ship writes a row and makes an output, with the same transaction.
func ship(msg *message.Message) ([]*message.Message, error) {
	tx, err := inbox.Tx(msg.Context())
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(msg.Context(), `INSERT INTO effects (event) VALUES (?)`, string(msg.Payload)); err != nil {
		return nil, err
	}
	return []*message.Message{message.NewMessage("", msg.Payload)}, nil
}

func createEffects(t testing.TB, broker *sqlite.Broker) {
	t.Helper()
	_, err := broker.DB().Exec(`CREATE TABLE IF NOT EXISTS effects (event TEXT NOT NULL)`)
	require.NoError(t, err)
}

func count(t testing.TB, broker *sqlite.Broker, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, broker.DB().QueryRow(query, args...).Scan(&n))
	return n
}

func drained(t testing.TB, broker *sqlite.Broker) {
	t.Helper()
	var stats []sqlite.GroupStats
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var err error
		stats, err = broker.Stats(context.Background())
		require.NoError(t, err)
		if len(stats) > 0 && !slices.ContainsFunc(stats, func(s sqlite.GroupStats) bool { return s.Backlog+s.Pending > 0 }) {
			return
		}
	}
	require.FailNow(t, "did not drain", "%+v\nnow %d\nconsumers %v\npending (lane, position, owner, attempts, visible_at)\n%v", stats, time.Now().UnixMilli(),
		table(t, broker, `SELECT id || ' until ' || lease_until FROM hapax_consumers`),
		table(t, broker, `SELECT concat_ws(' ', lane, position & 0xFFFFFF, owner, attempts, visible_at) FROM hapax_pending LIMIT 20`))
}

func table(t testing.TB, broker *sqlite.Broker, query string) (rows []string) {
	t.Helper()
	result, err := broker.DB().Query(query)
	require.NoError(t, err)
	defer result.Close()
	for result.Next() {
		var row string
		require.NoError(t, result.Scan(&row))
		rows = append(rows, row)
	}
	return rows
}

// exactlyOnce checks the rows and the outputs of n events, as multisets.
func exactlyOnce(t testing.TB, broker *sqlite.Broker, n int) {
	t.Helper()
	require.Empty(t, table(t, broker, `SELECT metadata FROM hapax_log WHERE topic LIKE '%.dead'`), "dead letters")
	require.Equal(t, n, count(t, broker, `SELECT count(DISTINCT event) FROM effects`), "events with an effect")
	require.Equal(t, n, count(t, broker, `SELECT count(*) FROM effects`), "effects")
	require.Equal(t, n, count(t, broker, `SELECT count(DISTINCT json_extract(metadata, '$.hapax_event_id')) FROM hapax_log WHERE topic = ?`, output), "events with an output")
	require.Equal(t, n, count(t, broker, `SELECT count(*) FROM hapax_log WHERE topic = ?`, output), "outputs")
}

func TestCopiesTakeEffectOnce(t *testing.T) {
	for _, kind := range []dedup.ClaimKind{dedup.Optimistic, dedup.Pessimistic} {
		t.Run(string(kind), func(t *testing.T) { copiesTakeEffectOnce(t, kind) })
	}
}

func copiesTakeEffectOnce(t *testing.T, kind dedup.ClaimKind) {
	path := file(t)
	broker := openBroker(t, path, nil)
	createEffects(t, broker)
	const events = 100
	var msgs []*message.Message
	for copies := range 3 {
		for i := range events {
			key := ""
			if i%2 == 0 { // with other keys, so that the copies are not in one lane
				key = fmt.Sprint("key", i, copies)
			}
			msgs = append(msgs, event(fmt.Sprint("event", i), key))
		}
	}
	publish(t, broker, msgs...)
	other := openBroker(t, path, nil)
	stop, stopOther := serveKind(t, broker, ship, nil, kind), serveKind(t, other, ship, nil, kind)
	drained(t, broker)
	stop()
	stopOther()
	exactlyOnce(t, broker, events)
}
