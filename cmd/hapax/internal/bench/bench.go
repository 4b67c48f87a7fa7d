package bench

import (
	"context"
	"slices"
)

// The cases: what a handler does with a message.
const (
	// Consume handles messages and makes none.
	Consume = "consume"
	// ConsumeProduce makes one output of every message.
	ConsumeProduce = "consume-produce"
)

// The variants. A broker has those that mean something for it.
const (
	// Raw is the broker's client by itself, used as well as by hand.
	Raw = "raw"
	// Watermill is a Router with the official adapter.
	Watermill = "watermill"
	// Hapax is a Router with our adapter and deduplication off.
	Hapax = "hapax"
	// HapaxDedup is the same with deduplication on.
	HapaxDedup = "hapax-dedup"
	// HapaxInbox is the same where every handler also writes a row in the
	// transaction of the mark.
	HapaxInbox = "hapax-inbox"
)

var (
	cases    = []string{Consume, ConsumeProduce}
	variants = []string{Raw, Watermill, Hapax, HapaxDedup, HapaxInbox}
)

// Brokers lists what can be measured, in the order of the table.
func Brokers() []Broker {
	return slices.Concat([]Broker{memoryBroker(), sqliteBroker()}, rabbitMQBrokers(), redisBrokers(), kafkaBrokers(), sqsBrokers(), outboxBrokers(), inboxBrokers())
}

// Broker is what can be measured of one broker.
type Broker struct {
	Name string
	// Messages is how many a round has unless the user says otherwise: enough
	// for about half a second.
	Messages int
	Variants []Variant
	// Notes say what a reader of the figures must know.
	Notes []string
}

// Variant is one way to process messages.
type Variant struct {
	Name string
	// Once: copies of a message must not take effect.
	Once bool
	// Effects: every handler writes a row.
	Effects bool
	// Fewer divides the messages of a round, for what is many times slower than the
	// others; 0 is 1.
	Fewer int
	// Open prepares a lane. It is closed when all rounds are over.
	Open func(ctx context.Context, env Env) (Lane, error)
}

// Env is what all variants of a group have in common.
type Env struct {
	// Produce: every handler returns one output.
	Produce bool
	// Payload is that of every message.
	Payload []byte
	// InFlight is how many messages may be unacknowledged at a time.
	InFlight int
	// Folder is for files. A round creates it, and removes it again.
	Folder string
}

// Lane runs rounds of one variant, one at a time.
type Lane interface {
	// Round processes the load and returns once everything is acknowledged. It
	// starts and stops the meter around the processing; what it does before
	// and after is not measured.
	Round(ctx context.Context, load Load, meter *Meter) (Counts, error)
	Close() error
}

// Counts is what happened in a round, counted as far from the code under test as
// possible.
type Counts struct {
	Handled, Outputs, Effects int
}
