package config

import (
	"maps"
	"slices"
	"strings"
)

// Checks lists the names of all checks that a start runs: what allow may name.
var Checks = []string{
	"broker-connection", "broker-group", "dedup-off", "dedup-window",
	"kafka-brokers", "kafka-dead-letters", "kafka-id-log", "kafka-min-isr", "kafka-replication", "kafka-retention",
	"kafka-topic", "kafka-topic-config", "kafka-unclean-election",
	"ledger-connection", "ledger-one-host", "ledger-volatile",
	"rabbitmq-blocked", "rabbitmq-classic-queues", "rabbitmq-connection", "rabbitmq-dead-letters-at-most-once",
	"rabbitmq-handler-timeout", "rabbitmq-queue", "rabbitmq-queue-differs", "rabbitmq-queue-left-over",
	"rabbitmq-queue-limits", "rabbitmq-queue-order", "rabbitmq-queue-type", "rabbitmq-unrouted", "rabbitmq-window-too-short",
	"redis-clock", "redis-eviction", "redis-info", "redis-loss", "redis-min-replicas", "redis-persistence", "redis-version",
	"sql-clock", "sql-connection", "sql-durability", "sql-engine", "sql-index", "sql-isolation", "sql-schema",
	"sqlite-synchronous", "sqlite-wal", "sqlite-writable",
	"sqs-queue", "sqs-redrive", "sqs-retention", "sqs-settings",
	"strategy",
}

// Needed are the checks of what a service opens when it starts: it fails without, and
// allowing them would only change the message.
var Needed = []string{"broker-connection", "ledger-connection", "sql-connection", "sql-schema", "strategy"}

// allow checks that what is allowed exists, and can be.
func (v checker) allow() {
	for _, name := range v.config.Allow {
		v.that(!slices.Contains(Needed, name), "allow", nil, "found %q, but no service can start without what that check looks for: remove it", name)
		v.that(slices.Contains(Checks, name), "allow", nil, "found %q, which is no check: %s", name,
			didYouMean(name, Checks, "hapax doctor lists those that the config is subject to"))
	}
}

// CheckHandlers reports the keys of handlers that none of the service's handlers has
// as its name: what stands below them would have no effect.
func (c *Config) CheckHandlers(names []string) error {
	found := unused(c, "handlers", slices.Collect(maps.Keys(c.Handlers)), names, "no handler has this name, so the block has no effect")
	return found.err()
}

// UnusedTopics reports the keys of topics that are none of those given.
func (c *Config) UnusedTopics(topics []string) []*Problem {
	return unused(c, "topics", slices.Collect(maps.Keys(c.Topics)), topics, "no handler reads this topic or names it in To")
}

func unused(c *Config, block string, keys, known []string, problem string) (found problems) {
	v := checker{config: c, found: &found}
	known = slices.Compact(slices.Sorted(slices.Values(known)))
	advice := "remove it"
	if len(known) > 0 {
		advice = "rename it to one of " + strings.Join(known, ", ") + ", or remove it"
	}
	for _, key := range slices.Sorted(slices.Values(keys)) {
		v.that(slices.Contains(known, key), block+bracket(key), nil, "%s: %s", problem, didYouMean(key, known, advice))
	}
	return found
}

// didYouMean names what was likely meant, or else gives other advice.
func didYouMean(name string, known []string, advice string) string {
	if near := nearest(name, known); near != "" {
		return "did you mean \"" + near + "\"?"
	}
	return advice
}
