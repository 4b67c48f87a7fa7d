package adapters

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
)

// What an operator needs of a broker, beside what a service needs. Each of these is
// optional. Messages they hand out carry a Delivery with their Position, and must
// be neither acked nor nacked.

// LetterBox is implemented by brokers whose dead letters can be gone through and
// taken out one by one.
type LetterBox interface {
	// Letters hands every letter of a dead-letter topic to visit that is there when
	// the call begins and was not removed before, oldest first as far as the broker
	// orders them. What visit wants removed is removed, at the latest when Letters
	// returns; all else stays, for the next call. Killed in between: a letter that
	// should have been removed can be met again.
	//
	// An error of visit ends the call, and is returned as it is. A topic that does
	// not exist has no letters.
	Letters(ctx context.Context, topic string, visit func(letter *message.Message) (remove bool, err error)) error
}

// Browser is implemented by brokers whose topics can be read without taking
// messages from anybody.
type Browser interface {
	// Browse hands the messages of a topic to each, until ctx ends (nil is returned),
	// each returns an error (which is returned), or, without Follow, the end is
	// reached. No group notices, and nothing stays behind. Of a topic that does not
	// exist: ErrNoTopic, or with Follow, on brokers that make topics as they are first
	// used, it waits for it.
	Browse(ctx context.Context, topic string, options Browse, each func(*message.Message) error) error
}

// Browse says what to read.
type Browse struct {
	// From leaves out what was published before. Zero: from the first message that
	// is stored.
	From time.Time
	// Follow goes on with what is published later.
	Follow bool
	// Waits, if set, is called when Follow begins with a topic that does not exist yet.
	Waits func()
}

// Missing is what becomes of a topic that does not exist.
func (o Browse) Missing(topic string) error {
	if !o.Follow {
		return fmt.Errorf("read topic %q: %w", topic, ErrNoTopic)
	}
	if o.Waits != nil {
		o.Waits()
	}
	return nil
}

// ErrNoTopic: there is no such topic, or not yet.
var ErrNoTopic = errors.New("there is no such topic: is the name right, and has anything been published to it?")

// ErrNotBrowsable: the broker cannot show messages without taking them away. The
// error that wraps it says why, and what there is instead.
var ErrNotBrowsable = errors.New("messages cannot be looked at without taking them")

// Rememberer is implemented by brokers whose own strategies know what was
// processed, for questions from outside of a delivery.
type Rememberer interface {
	// Remember sets each entry's Verdict by the marks of the strategy with these
	// options on a topic: Fresh, Duplicate or Conflict. It changes nothing.
	Remember(ctx context.Context, topic string, options StrategyOptions, entries []*dedup.Entry) error
}
