package relay

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/outbox"
)

// counting is a publisher that notes what it takes, or refuses all of it.
type counting struct {
	taken []string
	fail  error
}

func (c *counting) Publish(_ string, messages ...*message.Message) error {
	for _, msg := range messages {
		if c.fail != nil {
			return c.fail
		}
		c.taken = append(c.taken, msg.UUID)
	}
	return nil
}

func (*counting) Close() error { return nil }

func waiting(t *testing.T, db *sql.DB) (rows int) {
	t.Helper()
	require.NoError(t, db.QueryRow("SELECT count(*) FROM hapax_outbox WHERE state = 0").Scan(&rows))
	return rows
}

// A relay whose shard another one has taken, because it had stood still, finds that out
// when it renews: it touches the shard no more, and forgets what it held of it.
func TestAShardThatWasTakenIsLeftAlone(t *testing.T) {
	w, db := newWorker(t, 10)
	write(t, db, "bad", 3)
	w.mustFind(t, 1)
	require.NotEmpty(t, w.held)
	_, err := db.Exec("UPDATE hapax_outbox_shards SET token = token + 1 WHERE shard = 3")
	require.NoError(t, err)
	_, err = db.Exec("UPDATE hapax_outbox_shards SET owner = 'other' WHERE shard = 4")
	require.NoError(t, err)
	_, err = w.relay.leases.tick(t.Context(), false)
	require.NoError(t, err)
	require.Equal(t, outbox.Shards-2, w.relay.Stats().Shards)

	write(t, db, "theirs", 3)
	write(t, db, "theirs too", 4)
	w.mustFind(t, 0)
	require.Empty(t, w.held)
	require.Equal(t, 3, waiting(t, db))
}

// A worker that stood still with a batch in its hands publishes nothing of it once its
// leases may have another owner; nor does it settle anything.
func TestABatchWhoseLeasesAreOverIsNotPublished(t *testing.T) {
	w, db := newWorker(t, 10)
	publisher := &counting{}
	w.relay.config.Publisher = publisher
	write(t, db, "a", 3)
	write(t, db, "b", 4)
	usable, _ := w.relay.leases.of(0, 1)
	batch, _, err := w.claim(t.Context(), usable)
	require.NoError(t, err)
	require.Len(t, batch, 2)
	byShard := map[int]lease{}
	for _, lease := range usable {
		if lease.shard == 3 {
			lease.until = time.Now()
		}
		byShard[lease.shard] = lease
	}
	p := &publication{worker: w, leases: byShard, failed: map[unit]bool{}, topics: map[string]*part{}}
	require.NoError(t, p.publish(t.Context(), w.ready(batch)))
	require.Equal(t, []string{"b"}, publisher.taken)
	require.Equal(t, 1, waiting(t, db))
}

// What is published but could not be settled is no success, and is marked when it is
// published again.
func TestRowsThatCannotBeSettledAreAnError(t *testing.T) {
	w, db := newWorker(t, 10)
	write(t, db, "a", 3)
	usable, _ := w.relay.leases.of(0, 1)
	batch, _, err := w.claim(t.Context(), usable)
	require.NoError(t, err)
	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorContains(t, w.settle(ended, batch), "1 rows are published and will be again")
	require.True(t, w.again[batch[0].id])
	require.NoError(t, w.settle(t.Context(), batch))
	require.Empty(t, w.again)
	require.Zero(t, waiting(t, db))
}

// A database that is away is an error of every step, not an outbox without rows.
func TestADatabaseThatIsAwayIsAnError(t *testing.T) {
	w, db := newWorker(t, 10)
	write(t, db, "a", 3)
	require.NoError(t, db.Close())
	_, err := w.round(t.Context())
	require.ErrorContains(t, err, "read outbox: ")
	_, err = w.relay.leases.tick(t.Context(), false)
	require.ErrorContains(t, err, "tell other relays: ")
	require.ErrorContains(t, w.relay.leases.renew(t.Context()), "closed")
	_, err = w.relay.leases.acquire(t.Context(), 1)
	require.ErrorContains(t, err, "look for free shards: ")
	w.relay.leases.leave(1)
	_, err = w.round(t.Context())
	require.ErrorContains(t, err, "give back shards: ")
	require.Error(t, w.relay.leases.end(t.Context()))
	require.ErrorContains(t, w.relay.Run(t.Context()), "start relay: ")
}

// While the broker is away no row is at fault: none is counted against, held or parked.
func TestNoRowIsAtFaultWhileTheBrokerIsAway(t *testing.T) {
	w, db := newWorker(t, 10)
	away := errors.New("connection refused")
	publisher := &counting{fail: away}
	w.relay.config.Publisher = publisher
	w.relay.config.Ping = func(context.Context) error { return away }
	w.relay.config.MaxAttempts = 1
	write(t, db, "a", 3)
	for range 3 {
		_, err := w.round(t.Context())
		require.ErrorIs(t, err, errOutage)
		require.ErrorIs(t, err, away)
	}
	write(t, db, "b", 3)
	_, err := w.round(t.Context())
	require.ErrorIs(t, err, errOutage)
	require.Empty(t, w.held)
	require.Equal(t, 2, waiting(t, db))
	publisher.fail = nil
	found, err := w.round(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, found)
	require.Equal(t, []string{"a", "b"}, publisher.taken)
	require.Zero(t, waiting(t, db))
}
