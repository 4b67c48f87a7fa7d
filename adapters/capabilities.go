package adapters

import "errors"

// Capabilities is what a broker can do. Suites skip by it, and print why; the
// README's matrix is generated from it.
type Capabilities struct {
	// Name is the broker's name in hapax.yaml.
	Name string
	// Strategies are the names of its own strategies in the rules table.
	Strategies []string
	// AtomicCommit: mark, outputs and acknowledgement commit together.
	AtomicCommit bool
	// AtomicSQL: the handler's SQL writes commit with them.
	AtomicSQL bool
	// ConsumerGroups: groups each see every message, members share them.
	ConsumerGroups bool
	// OrderAcrossConsumers: equal keys stay in order when a group has many members.
	OrderAcrossConsumers bool
	// KeyOrder is what becomes of the order of equal keys where it differs from what
	// subscriptions ask for.
	KeyOrder KeyOrder
	// Replay: a new group starts with the messages that are already there.
	Replay bool
	// BrokerDeduplicates: the broker itself drops some repeated sends.
	BrokerDeduplicates bool
	// MaxPayload is the largest payload in bytes; 0: no limit of its own.
	MaxPayload int
	// Why explains every capability that is missing, and a KeyOrder, by field name.
	Why map[string]string
}

// KeyOrder is what a broker keeps of the order of equal keys.
type KeyOrder string

const (
	// OrderAsAsked: Subscription.Ordering decides.
	OrderAsAsked KeyOrder = ""
	// OrderNever: no order is kept, not even for one consumer that asks for it.
	OrderNever KeyOrder = "never"
	// OrderAlways: equal keys wait for each other, also for a consumer that asks
	// for no order.
	OrderAlways KeyOrder = "always"
)

// ErrNoStrategy: the broker has no strategy of that name.
var ErrNoStrategy = errors.New("broker has no such strategy")
