package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// refusing is an outbox that takes nothing while it has a reason.
type refusing struct {
	inbox.Outbox
	check, store error
}

func (r *refusing) Check(outputs []dedup.Output) error {
	return errors.Join(r.check, r.Outbox.Check(outputs))
}

func (r *refusing) Store(ctx context.Context, tx *sql.Tx, outputs []dedup.Output) error {
	if r.store != nil {
		return r.store
	}
	return r.Outbox.Store(ctx, tx, outputs)
}

// An event whose outputs cannot be stored is not acknowledged, whether its handler uses the
// transaction or not; nothing of it stays, and it takes effect when it comes again.
func TestOutputsThatCannotBeStoredFailTheEvent(t *testing.T) {
	for name, test := range map[string]struct {
		withTx  bool
		fail    refusing
		dialect sqldb.Dialect
	}{
		"stored with SQL":                {true, refusing{store: errRefused}, sqldb.SQLite},
		"stored without SQL":             {false, refusing{store: errRefused}, sqldb.SQLite},
		"checked with SQL":               {true, refusing{check: errRefused}, sqldb.SQLite},
		"checked without SQL":            {false, refusing{check: errRefused}, sqldb.SQLite},
		"stored on a server":             {true, refusing{store: errRefused}, sqldb.Postgres},
		"stored on a server without SQL": {false, refusing{store: errRefused}, sqldb.Postgres},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRigOn(t, test.dialect)
			outbox := &test.fail
			h := r.process(func(o *inbox.Options, _ *sqldb.Options) { outbox.Outbox, o.Outbox = o.Outbox, outbox }).
				handler(func(ctx context.Context, id string) error {
					if test.withTx {
						return r.effect(ctx, id)
					}
					return nil
				})
			require.ErrorIs(t, h.deliver("1", "payload"), errRefused)
			require.Zero(t, r.number(`SELECT count(*) FROM hapax_inbox`))
			require.Zero(t, r.number(`SELECT count(*) FROM effects`))
			outbox.check, outbox.store = nil, nil
			for range 3 { // an effect, and two duplicates of it
				require.NoError(t, h.deliver("1", "payload"))
			}
			require.Equal(t, 1, r.number(`SELECT count(*) FROM hapax_inbox`))
			require.Equal(t, 1, r.number(`SELECT count(*) FROM hapax_outbox`))
		})
	}
}

func TestOutputsNeedAnOutbox(t *testing.T) {
	r := newRigOn(t, sqldb.SQLite)
	h := r.process(func(o *inbox.Options, _ *sqldb.Options) { o.Outbox = nil }).handler(func(context.Context, string) error { return nil })
	require.ErrorIs(t, h.deliver("1", "payload"), dedup.ErrBadOutput)
	require.Zero(t, r.number(`SELECT count(*) FROM hapax_inbox`))
}

// A claim that failed leaves nothing behind that would keep the event out.
func TestAClaimThatFailsHoldsNothing(t *testing.T) {
	r := newRigOn(t, sqldb.SQLite)
	h := r.process().handler(r.effect)
	ended, end := context.WithCancel(t.Context())
	end()
	msg := message.NewMessage("1", []byte("payload"))
	msg.Metadata.Set(dedup.MetaEventID, "1")
	msg.SetContext(ended)
	_, err := h.handle(msg)
	require.ErrorContains(t, err, "look up marks: ")
	require.NoError(t, h.deliver("1", "payload"))
	r.exact(1)
}

// brokenPublisher publishes nothing.
type brokenPublisher struct{ letters }

func (*brokenPublisher) Publish(string, ...*message.Message) error { return errRefused }

// A letter that is not out must not let its delivery be acknowledged.
func TestALetterThatIsNotPublishedIsAnError(t *testing.T) {
	p := newRigOn(t, sqldb.SQLite).process()
	letter := dedup.Output{Topic: "orders.dead", Message: message.NewMessage("1", nil)}
	require.ErrorIs(t, p.inbox.Strategy(&brokenPublisher{}).DeadLetter(t.Context(), nil, letter), errRefused)
	taken := &letters{}
	require.NoError(t, p.inbox.Strategy(taken).DeadLetter(t.Context(), nil, letter))
	require.Equal(t, []*message.Message{letter.Message}, taken.list)
}

// What a unit's function returns is what its caller hears, also if the caller's context
// ended while it ran: what became of it is known a moment later.
func TestAUnitsErrorReachesItsCaller(t *testing.T) {
	_, group := open(t, inbox.Config{})
	require.ErrorIs(t, group.Do(t.Context(), func(context.Context, *sql.Tx) error { return errRefused }), errRefused)
	batch := inbox.NewBatch(group, func(context.Context, *sql.Tx, []string) error { return errRefused })
	require.ErrorIs(t, batch.Do(t.Context(), "item"), errRefused)

	ctx, cancel := context.WithCancel(t.Context())
	err := group.Do(ctx, func(ctx context.Context, tx *sql.Tx) error {
		cancel()
		return errRefused
	})
	require.ErrorIs(t, err, errRefused)
	ctx, cancel = context.WithCancel(t.Context())
	require.NoError(t, group.Do(ctx, func(context.Context, *sql.Tx) error { cancel(); return nil }))
}
