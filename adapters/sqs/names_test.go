package sqs

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestQueueNames(t *testing.T) {
	for _, c := range []struct {
		config           Config
		topic, name, err string
	}{
		{topic: "orders", name: "orders"},
		{topic: "orders.created", name: "orders__created"},
		{topic: "orders.created.dead", name: "orders__created__dead"},
		{topic: "snake_case", name: "snake_case"},
		{topic: "a/b ü", name: "a_x2fb_x20_xc3_xbc"},
		{topic: "a_.b", name: "a_x5f__b"},
		{topic: "a__b", name: "a_x5f_x5fb"},
		{topic: "a_x2fb", name: "a_x5fx2fb"},
		{topic: "orders.fifo", name: "orders.fifo"},
		{topic: "eu.orders.fifo", name: "eu__orders.fifo"},
		{topic: "orders.fifo.dead", name: "orders__fifo__dead.fifo"},
		{topic: "orders.fifo.dead.fifo", err: `dead letters of "orders.fifo"`},
		{topic: "", err: "empty"},
		{topic: ".fifo", err: "give the topic a shorter name"},
		{topic: strings.Repeat("x", 81), err: "81 characters"},
		{config: Config{FIFO: true}, topic: "orders.dead", name: "orders__dead.fifo"},
		{config: Config{FIFO: true}, topic: "orders.fifo", err: "leave it off"},
		{config: Config{QueuePrefix: "prod-"}, topic: "orders", name: "prod-orders"},
	} {
		name, err := c.config.QueueName(c.topic)
		if c.err != "" {
			require.ErrorContains(t, err, c.err, c.topic)
			continue
		}
		require.NoError(t, err, c.topic)
		require.Equal(t, c.name, name)
	}
}

// unescape undoes escape, as its comment describes; that there is such a function
// proves that no two topics share a name.
func unescape(name string) string {
	hex := regexp.MustCompile(`^_x([0-9a-f]{2})`)
	var topic strings.Builder
	for name != "" {
		run := len(name) - len(strings.TrimLeft(name, "_"))
		match := hex.FindStringSubmatch(name)
		switch {
		case run >= 2:
			topic.WriteByte('.')
			name = name[2:]
		case match != nil:
			b, _ := strconv.ParseUint(match[1], 16, 8)
			topic.WriteByte(byte(b))
			name = name[4:]
		default:
			topic.WriteByte(name[0])
			name = name[1:]
		}
	}
	return topic.String()
}

func TestNamesAreInjective(t *testing.T) {
	legal := regexp.MustCompile(`^[A-Za-z0-9_-]*$`)
	rapid.Check(t, func(t *rapid.T) {
		topic := rapid.OneOf(rapid.StringMatching(`[_.x25fa/-]{0,12}`), rapid.String()).Draw(t, "topic")
		name := escape(topic)
		require.Regexp(t, legal, name)
		require.Equal(t, topic, unescape(name))
	})
}
