package framework

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// Committed says what is known of an event's effects.
type Committed struct {
	// State is yes (its mark is there), no (there is none), conflict (its ID is
	// marked with another payload), in progress (a worker holds its lease), or
	// unknown.
	State string `json:"state"`
	// Why explains it in words.
	Why string `json:"why"`
}

// The states of Committed.
const (
	CommittedYes      = "yes"
	CommittedNo       = "no"
	CommittedConflict = "conflict"
	CommittedRunning  = "in progress"
	CommittedUnknown  = "unknown"
)

// Committed looks up the mark of a letter's event, where the handler's strategy has
// a store that answers.
func (o *Operator) Committed(ctx context.Context, letter *Letter) Committed {
	unknown := func(format string, args ...any) Committed {
		return Committed{CommittedUnknown, fmt.Sprintf(format, args...)}
	}
	scope, guess := dedup.Scope{Service: letter.Service, Handler: letter.Handler}, ""
	if scope.Service == "" { // the broker gave it up: it knows topics only
		scope = dedup.Scope{Service: o.config.Service, Handler: o.topic(letter)}
		guess = "the broker gave it up, and does not tell for which handler; "
	}
	switch {
	case letter.EventID == "":
		return unknown("the event has no ID, and no mark without one")
	case scope.Service != o.config.Service:
		return unknown("service %q could not process it, and this config is of %q", scope.Service, o.config.Service)
	}
	reader, known := o.marks[scope]
	if !known {
		reader = o.openMarks(ctx, o.topic(letter), scope)
		o.marks[scope] = reader
	}
	if reader.err != nil {
		return unknown("the marks of handler %q cannot be read: %v", scope.Handler, reader.err)
	}
	event := &dedup.Event{Message: letter.message}
	event.Scope, event.EventID, event.Topic = scope, letter.EventID, letter.Topic
	event.ID, event.Digest = dedup.NewID(scope, letter.EventID), dedup.NewDigest(letter.message.Payload)
	if dedup.ConflictPolicy(o.config.Dedup.Conflict) == dedup.Ignore {
		event.Digest = dedup.Digest{}
	}
	if err := reader.look(ctx, event); err != nil {
		return unknown("the marks of handler %q cannot be read: %v", scope.Handler, err)
	}
	switch event.Verdict {
	case dedup.Fresh:
		return Committed{CommittedNo, guess + fmt.Sprintf("handler %q has no mark of it: nothing had committed", scope.Handler)}
	case dedup.Duplicate:
		return Committed{CommittedYes, guess + fmt.Sprintf("handler %q has its mark: its effects had committed, and it will drop the event", scope.Handler)}
	case dedup.Conflict:
		return Committed{CommittedConflict, guess + fmt.Sprintf("handler %q has a mark of its ID with another payload: it will refuse the event again", scope.Handler)}
	default:
		return Committed{CommittedRunning, guess + fmt.Sprintf("a worker of handler %q is processing it now", scope.Handler)}
	}
}

// markReader looks up marks of one scope.
type markReader struct {
	look  func(context.Context, *dedup.Event) error
	close func() error
	err   error
}

var errDedupOff = errors.New("deduplication is off, so there are none")

// openMarks builds the strategy of a scope as a service does. A broker's own
// strategy is asked through adapters.Rememberer, because its claims need a delivery;
// any other by a claim that is given back at once.
func (o *Operator) openMarks(ctx context.Context, topic string, scope dedup.Scope) *markReader {
	none := func() error { return nil }
	rule, err := RuleFor(o.config, topic, scope.Handler)
	if err == nil && rule.Strategy == dedup.StrategyNone {
		err = errDedupOff
	}
	if err != nil {
		return &markReader{err: err, close: none}
	}
	group := scope.Service + "." + scope.Handler
	if !rule.Ledger && !(rule.Strategy == dedup.StrategyInbox && ownDatabase(o.config)) {
		memory, can := o.broker.(adapters.Rememberer)
		if !can {
			return &markReader{err: fmt.Errorf("the adapter of broker %s does not offer it", o.config.Broker), close: none}
		}
		options := adapters.StrategyOptions{Scope: scope, Group: group, Window: time.Duration(o.config.Handler(scope.Handler).Window), Claim: rule.Claim}
		return &markReader{close: none, look: func(ctx context.Context, event *dedup.Event) error {
			return memory.Remember(ctx, o.names.of(topic), options, []*dedup.Entry{&event.Entry})
		}}
	}
	// A service without a Router is enough to open what strategies keep marks in.
	service := &Service{config: o.config, logger: o.logger, broker: o.broker, registrations: []*registration{{topic: topic, name: scope.Handler}}}
	strategy, err := service.strategy(ctx, topic, scope, group)
	if err != nil {
		return &markReader{err: errors.Join(err, service.Close()), close: none}
	}
	return &markReader{close: service.Close, look: func(ctx context.Context, event *dedup.Event) error {
		// The claim lasts as long as the question.
		event.Message = message.NewMessage(event.EventID, event.Message.Payload)
		claim, err := strategy.Claim(ctx, []*dedup.Event{event})
		if claim != nil {
			claim.Release(context.WithoutCancel(ctx))
		}
		return err
	}}
}
