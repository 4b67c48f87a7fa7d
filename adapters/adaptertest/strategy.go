package adaptertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// strategies: the broker's own strategies, with every kind of claim that the rules
// table allows them.
func (s *suite) strategies(t *testing.T) {
	s.need(t, "Strategies", len(s.capabilities.Strategies) > 0)
	for _, name := range s.capabilities.Strategies {
		for _, kind := range claimKinds(s.capabilities.Name, name) {
			t.Run(fmt.Sprintf("%s, %s", name, kind), func(t *testing.T) {
				for _, test := range []struct {
					name string
					run  func(*testing.T, *strategyTest)
				}{
					{"commit publishes and marks", commitPublishesAndMarks},
					{"conflict", conflict},
					{"release leaves no mark", releaseLeavesNoMark},
					{"dead letter leaves no mark", deadLetterLeavesNoMark},
					{"scopes are apart", scopesAreApart},
					{"of two copies one commits", oneCopyCommits},
					{"concurrent copies", func(t *testing.T, st *strategyTest) {
						concurrentCopies(t, st, adapters.OrderByKey, func(id string, _ int) *message.Message { return newMessage(id, "x") })
					}},
					{"concurrent copies, side by side", func(t *testing.T, st *strategyTest) {
						concurrentCopies(t, st, adapters.Unordered, newCopy)
					}},
					{"taken over, no commit", takenOverNoCommit},
				} {
					t.Run(test.name, func(t *testing.T) {
						st := &strategyTest{suite: s, name: name, kind: kind, in: s.Topic(t), out: s.Topic(t), read: map[string]bool{}}
						// Marks outlive the test.
						st.scope = dedup.Scope{Service: st.in, Handler: "handler"}
						st.reader = s.join(t, s.open(t), st.out, adapters.Subscription{Group: "reader"})
						test.run(t, st)
					})
				}
			})
		}
	}
}

// claimKinds looks up what the rules table says; a strategy that is not in it has
// its default only.
func claimKinds(broker, strategy string) []dedup.ClaimKind {
	for _, rule := range dedup.Rules {
		if rule.Broker == broker && rule.Strategy == strategy {
			return rule.Claims
		}
	}
	return []dedup.ClaimKind{""}
}

// strategyTest is one strategy between an input and an output topic.
type strategyTest struct {
	*suite
	name    string
	kind    dedup.ClaimKind
	in, out string
	scope   dedup.Scope
	reader  *member
	read    map[string]bool // by the reader: UUIDs, and with their positions
	markers int
}

// worker is a member of the input's group, with the strategy of its connection.
type worker struct {
	*member
	*strategyTest
	broker   adapters.Broker
	strategy dedup.Strategy
	scope    dedup.Scope
}

func (st *strategyTest) work(t *testing.T, subscription adapters.Subscription, scope dedup.Scope) *worker {
	t.Helper()
	broker := st.open(t)
	if subscription.Group == "" {
		subscription.Group = "group"
	}
	m := st.join(t, broker, st.in, subscription)
	strategy, err := broker.Strategy(st.name, adapters.StrategyOptions{
		Scope: scope, Group: subscription.Group, Window: time.Hour, Claim: st.kind,
	})
	require.NoError(t, err, "open strategy %s", st.name)
	return &worker{member: m, strategyTest: st, broker: broker, strategy: strategy, scope: scope}
}

const metaCopyOf = "copy_of"

// newCopy makes a copy of an event that a broker cannot tell for one, so that it
// is handed out beside the others: some hand out equal event IDs one at a time.
// The key is the event's, because some remember an ID by partition; without order
// it holds nothing up.
func newCopy(id string, number int) *message.Message {
	return newMessage(fmt.Sprintf("%s, copy %d", id, number), "x", dedup.MetaKey, id, metaCopyOf, id)
}

// event is the event of a delivery. Copies made by newCopy are one event.
func (w *worker) event(msg *message.Message) *dedup.Event {
	id := msg.Metadata.Get(metaCopyOf)
	if id == "" {
		id = eventID(msg)
	}
	return &dedup.Event{
		Entry: dedup.Entry{
			ID: dedup.NewID(w.scope, id), Digest: dedup.NewDigest(msg.Payload), Token: dedup.NextToken(),
			EventID: id, Scope: w.scope, Topic: w.in,
		},
		Source:  dedup.SourceMetadata,
		Message: msg,
	}
}

// claim receives a message and claims its event.
func (w *worker) claim(t *testing.T) (*dedup.Event, dedup.Claim) {
	t.Helper()
	event := w.event(w.receive(t))
	claim, err := w.strategy.Claim(event.Message.Context(), []*dedup.Event{event})
	require.NoError(t, err, "claim %s", event.EventID)
	require.Equal(t, event.Verdict == dedup.Fresh, claim != nil, "a claim comes with a fresh event only; it is %s", event.Verdict)
	return event, claim
}

// claimFresh claims until the event is fresh: the lease of another may have to run
// out first.
func (w *worker) claimFresh(t *testing.T) (*dedup.Event, dedup.Claim) {
	t.Helper()
	for until := time.Now().Add(w.Patience); time.Now().Before(until); {
		event, claim := w.claim(t)
		if event.Verdict == dedup.Fresh {
			return event, claim
		}
		require.Equal(t, dedup.InFlight, event.Verdict, event.EventID)
		event.Message.Nack()
	}
	require.FailNow(t, "still in flight", "after %s", w.Patience)
	return nil, nil
}

// output makes output number i of an event. All have one key, so that the reader
// knows when it has seen everything.
func (w *worker) output(event *dedup.Event, i int) dedup.Output {
	msg := newMessage(event.ID.Output(i), fmt.Sprintf("%s/%d", event.EventID, i), dedup.MetaKey, "outputs")
	return dedup.Output{Topic: w.out, Message: msg}
}

// commit commits with one output and acks.
func (w *worker) commit(t *testing.T, event *dedup.Event, claim dedup.Claim) {
	t.Helper()
	require.Equal(t, dedup.Fresh, event.Verdict)
	require.NoError(t, commit(event, claim, w.output(event, 0)), "commit %s", event.EventID)
	require.True(t, event.Message.Ack())
}

// commit must be refused by the strategy itself, not by a context that ended.
func commit(event *dedup.Event, claim dedup.Claim, outputs ...dedup.Output) error {
	ctx := context.WithoutCancel(event.Message.Context())
	err := claim.Commit(ctx, outputs)
	if err != nil {
		claim.Release(ctx)
	}
	return err
}

// outputs returns the payloads on the output topic so far, sorted: everything up
// to a marker that is published now, behind them.
func (st *strategyTest) outputs(t *testing.T) []string {
	t.Helper()
	st.markers++
	marker := fmt.Sprint("marker-", st.markers)
	st.publish(t, st.open(t), st.out, newMessage(marker, marker, dedup.MetaKey, "outputs"))
	payloads := []string{}
	for {
		msg := st.reader.receive(t)
		msg.Ack()
		again := st.readAgain(msg)
		if string(msg.Payload) == marker {
			break
		}
		if !again {
			payloads = append(payloads, string(msg.Payload))
		}
	}
	st.reader.receiveNothing(t, "outputs come before the marker that was published behind them")
	slices.Sort(payloads)
	return payloads
}

// readAgain reports that the reader has had this very message before: it lost its lease, as
// it may on a busy machine. An output that was published twice is another message: it is
// elsewhere in the broker, and was delivered once.
func (st *strategyTest) readAgain(msg *message.Message) bool {
	delivery := adapters.DeliveryFrom(msg.Context())
	place := msg.UUID + " " + delivery.Position
	read, samePlace := st.read[msg.UUID], st.read[place]
	st.read[msg.UUID], st.read[place] = true, true
	return samePlace || read && delivery.Attempt > 1
}

func (st *strategyTest) send(t *testing.T, messages ...*message.Message) {
	t.Helper()
	st.publish(t, st.open(t), st.in, messages...)
}

func lost(err error) bool {
	return errors.Is(err, dedup.ErrLeaseLost) || errors.Is(err, dedup.ErrLostRace)
}
