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
	// Replay: a new group starts with the messages that are already there.
	Replay bool
	// BrokerDeduplicates: the broker itself drops some repeated sends.
	BrokerDeduplicates bool
	// MaxPayload is the largest payload in bytes; 0: no limit of its own.
	MaxPayload int
	// Why explains every capability that is missing, by field name.
	Why map[string]string
}

// ErrNoStrategy: the broker has no strategy of that name.
var ErrNoStrategy = errors.New("broker has no such strategy")
