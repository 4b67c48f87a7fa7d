package relay

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/written"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

// stubborn refuses the message "bad".
type stubborn struct{}

func (stubborn) Publish(_ string, messages ...*message.Message) error {
	for _, msg := range messages {
		if msg.UUID == "bad" {
			return errors.New("not that one")
		}
	}
	return nil
}

func (stubborn) Close() error { return nil }

// newWorker returns the one worker of a relay that owns all shards and does not run,
// so that a test can make its rounds one by one.
func newWorker(t *testing.T, batch int) (*worker, *sql.DB) {
	t.Helper()
	db := sqldbtest.Open(t, sqldbtest.New(t, sqldb.SQLite), sqldb.Options{})
	tables, err := schema.New(db, sqldb.SQLite, schema.Names{})
	require.NoError(t, err)
	_, err = tables.Up(t.Context())
	require.NoError(t, err)
	r, err := New(Config{
		DB: db, Outbox: outbox.Config{Dialect: sqldb.SQLite}, Publisher: stubborn{}, Batch: batch, Workers: 1,
		Lease: time.Hour, RetryDelay: time.Hour, MaxRetryDelay: time.Hour, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	_, err = r.leases.tick(t.Context(), false)
	require.NoError(t, err)
	require.Equal(t, outbox.Shards, r.Stats().Shards)
	return r.workers[0], db
}

// write commits an event into a shard.
func write(t *testing.T, db *sql.DB, id string, shard int) {
	t.Helper()
	tx, err := db.Begin()
	require.NoError(t, err)
	publisher, err := outbox.NewPublisher(t.Context(), tx, outbox.Config{Dialect: sqldb.SQLite})
	require.NoError(t, err)
	msg := message.NewMessage(id, nil)
	msg.Metadata.Set(dedup.MetaKey, id)
	require.NoError(t, publisher.Publish("orders", msg))
	_, err = tx.Exec("UPDATE hapax_outbox SET shard = ? WHERE uuid = ?", shard, id)
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
}

func (w *worker) mustFind(t *testing.T, rows int) {
	t.Helper()
	clear(w.rests) // a slow machine may make them long
	found, err := w.round(t.Context())
	require.NoError(t, err)
	require.Equal(t, rows, found)
}

// Behind a full batch the next claim begins with the shards after it. What is due in
// the others was not looked for, so that it is not found says nothing.
func TestHoldOfAShardThatWasNotLookedAtStays(t *testing.T) {
	w, db := newWorker(t, 2)
	write(t, db, "bad", 3)
	w.mustFind(t, 1)
	held := w.held[unit{key: "bad"}]
	require.NotNil(t, held)
	write(t, db, "a", 5)
	write(t, db, "b", 5)
	w.mustFind(t, 2) // full: shards after 5 are next
	write(t, db, "c", 7)
	held.until = time.Now()
	w.mustFind(t, 1)
	require.Same(t, held, w.held[unit{key: "bad"}], "its pauses begin anew")

	// Nor does what stands behind the end of a full batch.
	write(t, db, "d", 1)
	write(t, db, "e", 2)
	w.mustFind(t, 2)
	require.Same(t, held, w.held[unit{key: "bad"}])

	// Looked for and not found: somebody discarded it.
	_, err := db.Exec("DELETE FROM hapax_outbox WHERE uuid = 'bad'")
	require.NoError(t, err)
	w.mustFind(t, 0)
	require.Empty(t, w.held)
}

// A hold that becomes due while the claim is under way was left out of it.
func TestHoldThatBecomesDueMeanwhileStays(t *testing.T) {
	w, db := newWorker(t, 2)
	write(t, db, "bad", 3)
	w.mustFind(t, 1)
	held := w.held[unit{key: "bad"}]
	usable, _ := w.relay.leases.of(0, 1)
	w.looked = time.Now()
	batch, read, err := w.claim(t.Context(), usable)
	require.NoError(t, err)
	require.Empty(t, batch)
	held.until = time.Now()
	w.forget(usable, batch, read)
	require.Same(t, held, w.held[unit{key: "bad"}])
}

// away is a database that nobody reaches.
type away struct{}

func (away) Connect(context.Context) (driver.Conn, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
}
func (away) Driver() driver.Driver { return nil }

// A database that is away when the relay begins is waited for, and that is said once.
func TestADatabaseThatIsAwayAtTheStart(t *testing.T) {
	db := sql.OpenDB(away{})
	defer db.Close()
	var said written.Text
	r, err := New(Config{DB: db, Publisher: stubborn{}, RetryDelay: time.Millisecond, MaxRetryDelay: time.Millisecond, Logger: slog.New(slog.NewTextHandler(&said, nil))})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx) }()
	require.Eventually(t, func() bool { return r.Healthy() != nil }, 30*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-ran)
	require.Equal(t, 1, strings.Count(said.String(), "does not get on"), said.String())
}

// Relays that want the same shard at the same moment are no trouble, whatever the isolation
// of the service's transactions is: one gets it, and the other looks at the next.
func TestRelaysThatWantTheSameShard(t *testing.T) {
	for _, level := range []string{"read-committed", "repeatable-read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			db := sqldbtest.Open(t, sqldbtest.New(t, sqldb.Postgres), sqldb.Options{Isolation: level})
			tables, err := schema.New(db, sqldb.Postgres, schema.Names{})
			require.NoError(t, err)
			_, err = tables.Up(t.Context())
			require.NoError(t, err)
			other, err := db.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			defer other.Rollback() //nolint:errcheck // after a COMMIT it does nothing
			_, err = other.Exec(`UPDATE hapax_outbox_shards SET owner = 'other', token = token + 1, expires_at = 9000000000000 WHERE shard = 3`)
			require.NoError(t, err)
			r, err := New(Config{DB: db, Publisher: stubborn{}, Lease: time.Hour, Logger: slog.New(slog.DiscardHandler)})
			require.NoError(t, err)
			took := make(chan error, 1)
			go func() { _, err := r.leases.tick(context.WithoutCancel(t.Context()), false); took <- err }()
			require.Eventually(t, func() bool {
				var waits bool
				require.NoError(t, db.QueryRow(`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waits))
				return waits
			}, 30*time.Second, 5*time.Millisecond)
			require.NoError(t, other.Commit())
			require.NoError(t, <-took)
			require.Equal(t, outbox.Shards-1, r.Stats().Shards)
		})
	}
}
