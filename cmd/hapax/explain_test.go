package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework"
)

// What is said of each strategy is what the README's table of guarantees says.
func TestRulesExplain(t *testing.T) {
	for name, c := range map[string]struct {
		yaml                           string
		strategy, outputs, sql, chosen string
	}{
		"embedded": {"", "inbox", "exactly once", "exactly once, through inbox.Tx(ctx), in the broker's own file", "the rules table"},
		"kafka":    {"broker: kafka\nkafka: {brokers: [\"h:1\"]}\n", "transaction", "exactly once, for readers", "not offered", "broker kafka"},
		"redis":    {"broker: redis\nredis: {addresses: [\"h:1\"]}\n", "xack", "exactly once, for readers", "not offered", "broker redis"},
		"cluster":  {"broker: redis\nredis: {addresses: [\"h:1\"], mode: cluster}\n", "xack", "to others at least once", "not offered", "broker redis"},
		"rabbitmq": {"broker: rabbitmq\nrabbitmq: {url: \"amqp://h\"}\n", "message-id", "at least once, each copy under the same event ID", "not offered", "broker rabbitmq"},
		"sqs":      {"broker: sqs\n", "consumer", "at least once, each copy under the same event ID", "not offered", "broker sqs"},
		"sqs-fifo": {"broker: sqs-fifo\n", "dedup-id", "at least once, each copy under the same event ID", "not offered", "broker sqs-fifo"},
		"sql":      {"broker: kafka\nkafka: {brokers: [\"h:1\"]}\nsql: {dsn: \"file:shop.db\"}\n", "inbox", "if and only if the transaction commits", "exactly once", "sql.dsn is set"},
		"none":     {"dedup: {strategy: none}\n", "none", "at least once: each copy", "not offered", "hapax.yaml:2:"},
	} {
		t.Run(name, func(t *testing.T) {
			file := writeConfig(t, "service: fulfilment\n"+c.yaml)
			text, err := run(t, "rules", "--explain", "--json", "-f", file, "orders", "audit=orders")
			require.NoError(t, err)
			var explanations []framework.Explanation
			require.NoError(t, json.Unmarshal([]byte(text), &explanations))
			require.Len(t, explanations, 2)
			require.Equal(t, "audit", explanations[0].Handler)
			e := explanations[1]
			require.Equal(t, c.strategy, e.Strategy)
			require.Contains(t, e.Chosen, c.chosen)
			require.Contains(t, e.Effects[0].Guarantee, c.outputs)
			require.Contains(t, e.Effects[1].Guarantee, c.sql)
			plain, err := run(t, "rules", "--explain", "-f", file)
			require.NoError(t, err)
			require.Contains(t, plain, "handler orders of topic orders")
			require.Equal(t, len(e.Effects), strings.Count(plain, "    because "))
		})
	}
	_, err := run(t, "rules", "orders")
	require.ErrorContains(t, err, "--explain")
}
