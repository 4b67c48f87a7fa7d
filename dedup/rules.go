package dedup

import (
	"fmt"
	"strings"
)

// ClaimKind says when an event is claimed.
type ClaimKind string

const (
	// Pessimistic: a lease is taken before the handler runs, so that at most one
	// worker runs it at a time. Needed where effects cannot be rolled back.
	Pessimistic ClaimKind = "pessimistic"
	// Optimistic: no lease; the commit decides, and the loser's effects are
	// discarded. A handler may run twice at the same time, and take effect once.
	Optimistic ClaimKind = "optimistic"
)

// The strategies of the rules table.
const (
	StrategyTransaction = "transaction"
	StrategyMessageID   = "message-id"
	StrategyDedupID     = "dedup-id"
	StrategyConsumer    = "consumer"
	StrategyXAck        = "xack"
	StrategyInbox       = "inbox"
	// StrategyNone turns deduplication off: plain at-least-once delivery, for
	// control runs and comparisons.
	StrategyNone = "none"
)

// Rule is one row of the rules table.
type Rule struct {
	// Broker is the broker's name in hapax.yaml.
	Broker string
	// Strategy is how its events are deduplicated.
	Strategy string
	// Claim is the default kind of claim, and Claims all kinds it supports.
	Claim  ClaimKind
	Claims []ClaimKind
	// Ledger: the strategy keeps its marks in a ledger that the config chooses;
	// otherwise the marks live where the commit does.
	Ledger bool
	// BrokerDoes is what the broker does by itself.
	BrokerDoes string
	// HapaxAdds is what is added because the broker alone is not enough.
	HapaxAdds string
}

// Rules is the rules table: the only place that knows which broker gets which
// strategy. hapax rules prints it; dedup.strategy in hapax.yaml overrides it.
var Rules = []Rule{
	{
		Broker: "kafka", Strategy: StrategyTransaction, Claim: Optimistic, Claims: []ClaimKind{Optimistic},
		BrokerDoes: "idempotent producer; outputs and offsets commit in one transaction",
		HapaxAdds:  "a log of processed IDs in the same transaction, for copies that producers sent twice",
	},
	{
		Broker: "rabbitmq", Strategy: StrategyMessageID, Claim: Pessimistic, Claims: []ClaimKind{Pessimistic}, Ledger: true,
		BrokerDoes: "message-id property, publisher confirms, manual acknowledgements",
		HapaxAdds:  "a ledger of processed IDs with fenced leases",
	},
	{
		Broker: "sqs-fifo", Strategy: StrategyDedupID, Claim: Pessimistic, Claims: []ClaimKind{Pessimistic}, Ledger: true,
		BrokerDoes: "MessageDeduplicationId = event ID for 5 minutes, MessageGroupId = key",
		HapaxAdds:  "a ledger for what the 5 minutes miss: redelivery after the visibility timeout, later re-sends",
	},
	{
		Broker: "sqs", Strategy: StrategyConsumer, Claim: Pessimistic, Claims: []ClaimKind{Pessimistic}, Ledger: true,
		BrokerDoes: "nothing: at least once, in any order",
		HapaxAdds:  "a ledger that remembers longer than the queue keeps messages",
	},
	{
		Broker: "redis", Strategy: StrategyXAck, Claim: Optimistic, Claims: []ClaimKind{Optimistic, Pessimistic},
		BrokerDoes: "consumer groups with a list of pending entries",
		HapaxAdds:  "one script: check the owner, mark the ID, XADD the outputs, XACK",
	},
	{
		Broker: "sqlite", Strategy: StrategyInbox, Claim: Optimistic, Claims: []ClaimKind{Optimistic, Pessimistic},
		BrokerDoes: "everything is one database",
		HapaxAdds:  "mark, outputs, the handler's SQL and the acknowledgement commit together",
	},
}

// SQLRule replaces the broker's rule when hapax.yaml has an sql block.
var SQLRule = Rule{
	Broker: "any, with sql", Strategy: StrategyInbox, Claim: Optimistic, Claims: []ClaimKind{Optimistic},
	BrokerDoes: "delivers at least once",
	HapaxAdds:  "mark, the handler's SQL and the outputs (as outbox rows) commit in one SQL transaction; the broker is acknowledged after it",
}

// RuleFor looks up the rule of a broker. With sql, a database of the service's
// own beside the broker, it is SQLRule.
func RuleFor(broker string, sql bool) (Rule, error) {
	var known []string
	for _, rule := range Rules {
		if rule.Broker != broker {
			known = append(known, rule.Broker)
			continue
		}
		if sql {
			return SQLRule, nil
		}
		return rule, nil
	}
	return Rule{}, fmt.Errorf("no rule for broker %q: expected one of %s", broker, strings.Join(known, ", "))
}

// With returns the rule with another strategy, as dedup.strategy in the config
// asks for. The kinds of claim and the need of a ledger follow the strategy.
func (r Rule) With(strategy string) Rule {
	r.Strategy = strategy
	switch strategy {
	case StrategyMessageID, StrategyDedupID, StrategyConsumer:
		r.Ledger, r.Claim, r.Claims = true, Pessimistic, []ClaimKind{Pessimistic}
		r.HapaxAdds = "a ledger of processed IDs with fenced leases"
	case StrategyNone:
		r.Ledger, r.Claim, r.Claims = false, "", nil
		r.HapaxAdds = "nothing: deduplication is off"
	default:
		r.Ledger = false
	}
	return r
}
