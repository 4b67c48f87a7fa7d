package adaptertest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

func commitPublishesAndMarks(t *testing.T, st *strategyTest) {
	w := st.work(t, adapters.Subscription{}, st.scope)
	st.send(t, newMessage("order", "x"))
	event, claim := w.claim(t)
	require.Equal(t, dedup.Fresh, event.Verdict)
	require.NoError(t, claim.Context(event.Message.Context()).Err())
	outputs := []dedup.Output{w.output(event, 0), w.output(event, 1)}
	require.NoError(t, commit(event, claim, outputs...))
	require.True(t, event.Message.Ack())
	require.Equal(t, []string{"order/0", "order/1"}, st.outputs(t))

	// The producer sends it again; the UUID differs, the event ID does not.
	st.send(t, newMessage("order", "x"))
	event, _ = w.claim(t)
	require.Equal(t, dedup.Duplicate, event.Verdict)
	event.Message.Ack()
	w.receiveNothing(t, "both copies were acked")
	require.Empty(t, st.outputs(t))

	// No outputs is a commit too.
	st.send(t, newMessage("silent", "x"))
	event, claim = w.claim(t)
	require.Equal(t, dedup.Fresh, event.Verdict)
	require.NoError(t, commit(event, claim))
	event.Message.Ack()
	st.send(t, newMessage("silent", "x"))
	event, _ = w.claim(t)
	require.Equal(t, dedup.Duplicate, event.Verdict)
	event.Message.Ack()
}

func conflict(t *testing.T, st *strategyTest) {
	w := st.work(t, adapters.Subscription{}, st.scope)
	st.send(t, newMessage("order", "one thing"))
	event, claim := w.claim(t)
	w.commit(t, event, claim)

	st.send(t, newMessage("order", "another thing"))
	event, _ = w.claim(t)
	require.Equal(t, dedup.Conflict, event.Verdict)
	event.Message.Ack()

	// Without a digest, contents are not compared.
	st.send(t, newMessage("order", "a third thing"))
	event = w.event(w.receive(t))
	event.Digest = dedup.Digest{}
	_, err := w.strategy.Claim(event.Message.Context(), []*dedup.Event{event})
	require.NoError(t, err)
	require.Equal(t, dedup.Duplicate, event.Verdict)
	event.Message.Ack()
	require.Equal(t, []string{"order/0"}, st.outputs(t))
}

// I3: a handler that failed leaves no mark.
func releaseLeavesNoMark(t *testing.T, st *strategyTest) {
	w := st.work(t, adapters.Subscription{}, st.scope)
	st.send(t, newMessage("order", "x"))
	for range 3 {
		event, claim := w.claim(t)
		require.Equal(t, dedup.Fresh, event.Verdict, "after a release")
		claim.Release(event.Message.Context())
		event.Message.Nack()
	}
	event, claim := w.claim(t)
	require.Equal(t, dedup.Fresh, event.Verdict, "after a release")
	w.commit(t, event, claim)
	require.Equal(t, []string{"order/0"}, st.outputs(t))
}

func deadLetterLeavesNoMark(t *testing.T, st *strategyTest) {
	w := st.work(t, adapters.Subscription{}, st.scope)
	dead := dedup.DeadLetterTopic(st.in)
	letters := st.join(t, st.open(t), dead, adapters.Subscription{Group: "undertaker"})
	st.send(t, newMessage("order", "x"))
	event := w.event(w.receive(t))
	letter := event.Message.Copy()
	letter.Metadata.Set(dedup.MetaDeadReason, "permanent")
	require.NoError(t, w.strategy.DeadLetter(event.Message.Context(), event, dedup.Output{Topic: dead, Message: letter}))
	event.Message.Ack()
	received := letters.receive(t)
	requireSame(t, letter, received)
	received.Ack()
	letters.receiveNothing(t, "one message died, once")

	// Somebody mended the cause, and sends it again.
	st.send(t, newMessage("order", "x"))
	event, claim := w.claim(t)
	require.Equal(t, dedup.Fresh, event.Verdict)
	w.commit(t, event, claim)
	w.receiveNothing(t, "both were acked")
	require.Equal(t, []string{"order/0"}, st.outputs(t))
}

// Two handlers of one topic each process an event once.
func scopesAreApart(t *testing.T, st *strategyTest) {
	st.need(t, "ConsumerGroups", st.capabilities.ConsumerGroups)
	one := st.work(t, adapters.Subscription{Group: "one"}, st.scope)
	two := st.work(t, adapters.Subscription{Group: "two"}, dedup.Scope{Service: st.scope.Service, Handler: "other"})
	st.send(t, newMessage("order", "x"))
	for _, w := range []*worker{one, two} {
		event, claim := w.claim(t)
		require.Equal(t, dedup.Fresh, event.Verdict, w.scope.Handler)
		w.commit(t, event, claim)
	}
	require.Equal(t, []string{"order/0", "order/0"}, st.outputs(t))
}

// Both copies are being handled; only one takes effect, whoever is first.
func oneCopyCommits(t *testing.T, st *strategyTest) {
	w := st.work(t, adapters.Subscription{Ordering: adapters.Unordered}, st.scope)
	st.send(t, newCopy("order", 1), newCopy("order", 2))
	first, firstClaim := w.claim(t)
	require.Equal(t, dedup.Fresh, first.Verdict)
	second, secondClaim := w.claim(t)
	if second.Verdict != dedup.Fresh { // a pessimistic claim keeps it out
		require.Equal(t, dedup.InFlight, second.Verdict)
		w.commit(t, first, firstClaim)
	} else {
		require.NotEqual(t, dedup.Pessimistic, st.kind, "a lease was given twice")
		w.commit(t, second, secondClaim)
		err := commit(first, firstClaim, w.output(first, 0))
		require.Error(t, err, "the second commit of an event")
		require.True(t, lost(err), "expected ErrLostRace or ErrLeaseLost, got: %v", err)
		second = first
	}
	second.Message.Nack()
	again, _ := w.claim(t)
	require.Equal(t, dedup.Duplicate, again.Verdict)
	again.Message.Ack()
	require.Equal(t, []string{"order/0"}, st.outputs(t))
}

// 200 events, 8 copies each, three members: what the middleware does, without it.
func concurrentCopies(t *testing.T, st *strategyTest, ordering adapters.Ordering, newCopy func(id string, number int) *message.Message) {
	const events, copies = 200, 8
	var mu sync.Mutex
	// By UUID, which every copy has its own: a member that loses its lease on a busy
	// machine sees a copy twice, which is no fault as long as the copy takes no
	// effect again. (Not by position: on some brokers a redelivery has another.)
	acked, problems := map[string]bool{}, []string{}
	for range 3 {
		w := st.work(t, adapters.Subscription{Window: 100, Ordering: ordering}, st.scope)
		w.handle(func(msg *message.Message) {
			event := w.event(msg)
			claim, err := w.strategy.Claim(msg.Context(), []*dedup.Event{event})
			if err == nil && event.Verdict == dedup.Fresh {
				err = commit(event, claim, w.output(event, 0))
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil && !lost(err):
				problems = append(problems, fmt.Sprintf("%s: %v", event.EventID, err))
				msg.Nack()
			case err != nil, event.Verdict == dedup.InFlight:
				msg.Nack() // comes again, and is a duplicate then
			case event.Verdict == dedup.Fresh, event.Verdict == dedup.Duplicate:
				acked[msg.UUID] = true
				msg.Ack()
			default:
				problems = append(problems, fmt.Sprintf("%s is %s", event.EventID, event.Verdict))
				msg.Ack()
			}
		})
	}
	for number := range copies {
		batch := make([]*message.Message, events)
		for i := range batch {
			batch[i] = newCopy(fmt.Sprintf("event-%d", i), number)
		}
		st.send(t, batch...)
	}
	want := make([]string, events)
	for i := range want {
		want[i] = fmt.Sprintf("event-%d/0", i)
	}
	slices.Sort(want)
	st.eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(acked) == events*copies }, "not all copies were acked")
	mu.Lock()
	defer mu.Unlock()
	require.Empty(t, problems)
	require.Equal(t, want, st.outputs(t), "outputs, as a multiset")
}

// I5: a worker that was taken over cannot commit.
func takenOverNoCommit(t *testing.T, st *strategyTest) {
	st.needHook(t, "Freeze", st.Freeze != nil)
	zombie := st.work(t, adapters.Subscription{DrainTimeout: -1}, st.scope)
	st.send(t, newMessage("order", "x"))
	stale, staleClaim := zombie.claim(t)
	require.Equal(t, dedup.Fresh, stale.Verdict)
	st.Freeze(t, zombie.broker)

	heir := st.work(t, adapters.Subscription{}, st.scope)
	event, claim := heir.claimFresh(t)
	require.Equal(t, stale.Message.UUID, event.Message.UUID)

	// The zombie wakes up, and is first to commit.
	err := commit(stale, staleClaim, zombie.output(stale, 7))
	require.Error(t, err, "the commit of a delivery that was taken over")
	require.True(t, lost(err), "expected ErrLeaseLost or ErrLostRace, got: %v", err)
	require.Empty(t, st.outputs(t), "outputs of the commit that was refused")
	stale.Message.Nack()

	heir.commit(t, event, claim)
	require.Equal(t, []string{"order/0"}, st.outputs(t))
	heir.receiveNothing(t, "it was committed and acked")
}
