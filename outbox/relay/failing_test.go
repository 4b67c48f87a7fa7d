package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// picky refuses messages whose ID begins with "bad", and notes the others.
type picky struct{ taken []string }

func (p *picky) Publish(_ string, messages ...*message.Message) error {
	for _, msg := range messages {
		if strings.HasPrefix(msg.UUID, "bad") {
			return errors.New("not that one")
		}
	}
	for _, msg := range messages {
		p.taken = append(p.taken, msg.UUID)
	}
	return nil
}

func (*picky) Close() error { return nil }

// newPickyWorker returns a worker whose broker is there, and what it takes.
func newPickyWorker(t *testing.T, attempts int) (*worker, *picky, func(topic, key, id string)) {
	t.Helper()
	w, db := newWorker(t, 100)
	publisher := &picky{}
	w.relay.config.Publisher = publisher
	w.relay.config.Ping = func(context.Context) error { return nil }
	w.relay.config.MaxAttempts = attempts
	return w, publisher, func(topic, key, id string) {
		t.Helper()
		tx, err := db.Begin()
		require.NoError(t, err)
		to, err := outbox.NewPublisher(t.Context(), tx, outbox.Config{Dialect: sqldb.SQLite})
		require.NoError(t, err)
		msg := message.NewMessage(id, nil)
		msg.Metadata.Set(dedup.MetaKey, key)
		require.NoError(t, to.Publish(topic, msg))
		require.NoError(t, tx.Commit())
	}
}

// A key waits behind a row that fails, and goes on behind one that is parked, in the same
// round; then nothing is held against it.
func TestAKeyWaitsBehindItsFailedRowUntilThatIsParked(t *testing.T) {
	w, publisher, write := newPickyWorker(t, 2)
	write("orders", "k", "bad")
	write("orders", "k", "behind")
	write("orders", "other", "other")
	w.mustFind(t, 3)
	require.Equal(t, []string{"other"}, publisher.taken)
	require.EqualValues(t, 1, w.relay.Stats().Failed)

	held := w.held[unit{key: "k"}]
	require.NotNil(t, held)
	held.until = time.Now() // its pause is over
	w.mustFind(t, 2)
	require.EqualValues(t, 1, w.relay.Stats().Parked)
	require.Empty(t, w.held)
	w.mustFind(t, 1)
	require.Equal(t, []string{"other", "behind"}, publisher.taken)
	w.mustFind(t, 0)
}

// A row that gets through at another try frees its key.
func TestAKeyIsFreeOnceItsRowGotThrough(t *testing.T) {
	w, publisher, write := newPickyWorker(t, 9)
	write("orders", "k", "bad")
	w.mustFind(t, 1)
	require.Len(t, w.held, 1)
	_, err := w.relay.config.DB.Exec("UPDATE hapax_outbox SET uuid = 'good'")
	require.NoError(t, err)
	w.held[unit{key: "k"}].until = time.Now()
	w.mustFind(t, 1)
	require.Equal(t, []string{"good"}, publisher.taken)
	require.Empty(t, w.held)
}

// A topic whose messages fail one after the other has its part of the round, and no more:
// it rests, and those of other topics go out.
func TestATopicThatFailsRestsAndOthersGoOn(t *testing.T) {
	w, publisher, write := newPickyWorker(t, 9)
	for i := range 3 * maxStreak {
		write("broken", fmt.Sprint("k", i), fmt.Sprint("bad ", i))
	}
	write("fine", "k", "fine")
	w.mustFind(t, 3*maxStreak+1)
	require.Equal(t, []string{"fine"}, publisher.taken)
	require.Len(t, w.held, maxStreak)
	require.NotNil(t, w.rests["broken"])
	require.Nil(t, w.rests["fine"])
}

// No more keys are held than there is room for: the others are tried again, and their topic
// rests for longer each time.
func TestHeldKeysAreBounded(t *testing.T) {
	w, _, write := newPickyWorker(t, 1)
	for i := range maxHeld {
		w.held[unit{key: fmt.Sprint("full ", i)}] = &hold{until: time.Now().Add(time.Hour), pause: w.relay.rowPause()}
	}
	write("orders", "k", "bad")
	w.mustFind(t, 1)
	require.Len(t, w.held, maxHeld)
	require.Nil(t, w.held[unit{key: "k"}])
	require.Zero(t, w.relay.Stats().Parked)
	require.True(t, w.resting("orders", time.Now()))
}
