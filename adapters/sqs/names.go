package sqs

import (
	"fmt"
	"strings"

	"github.com/hapax-go/hapax/dedup"
)

// fifoSuffix ends the name of every FIFO queue, and of no other.
const fifoSuffix = ".fifo"

const maxQueueName = 80

// IsFIFO reports whether the queue of a topic is a FIFO queue.
func (c *Config) IsFIFO(topic string) bool {
	name, err := c.QueueName(topic)
	return err == nil && strings.HasSuffix(name, fifoSuffix)
}

// QueueName maps a topic to the name of its queue, no two topics to the same.
// See the package documentation for the rule.
func (c *Config) QueueName(topic string) (name string, err error) {
	base, fifo := topic, c.FIFO
	deadFIFO := dedup.DeadLetterTopic(fifoSuffix)
	switch {
	case topic == "":
		return "", fmt.Errorf("the topic is empty")
	case c.FIFO && strings.HasSuffix(topic, fifoSuffix):
		return "", fmt.Errorf("topic %q: with fifo set, %q is appended to every queue's name: leave it off the topic's", topic, fifoSuffix)
	case strings.HasSuffix(topic, deadFIFO+fifoSuffix):
		return "", fmt.Errorf("topic %q: that is the queue of the dead letters of %q: choose another name",
			topic, strings.TrimSuffix(topic, deadFIFO+fifoSuffix)+fifoSuffix)
	case strings.HasSuffix(topic, fifoSuffix):
		base, fifo = strings.TrimSuffix(topic, fifoSuffix), true
	case strings.HasSuffix(topic, deadFIFO):
		fifo = true // dead letters of a FIFO queue keep their order
	}
	name = c.QueuePrefix + escape(base)
	if fifo {
		name += fifoSuffix
	}
	if len(name) > maxQueueName || base == "" {
		return "", fmt.Errorf("topic %q: its queue would be called %q (%d characters), SQS allows 1 to %d: give the topic a shorter name",
			topic, name, len(name), maxQueueName)
	}
	return name, nil
}

// escape turns a topic into letters, digits, "-" and "_".
//
// It can be undone, so no two topics meet. Read from the left, a run of "_" in
// the result is: its pairs are dots; one that is left over begins an escape when
// x and two hexadecimal digits follow, and stands for itself otherwise. A "_" of
// the topic that would join a run, or begin an escape, is escaped itself.
func escape(topic string) string {
	var name strings.Builder
	for i := range len(topic) {
		switch b := topic[i]; {
		case plain(b):
			name.WriteByte(b)
		case b == '.':
			name.WriteString("__")
		case b == '_' && (i == 0 || plain(topic[i-1])) && (i+1 == len(topic) || plain(topic[i+1])) && !hexAfterX(topic[i+1:]):
			name.WriteByte(b)
		default:
			fmt.Fprintf(&name, "_x%02x", b)
		}
	}
	return name.String()
}

func plain(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-'
}

func hexAfterX(s string) bool {
	isHex := func(b byte) bool { return b >= '0' && b <= '9' || b >= 'a' && b <= 'f' }
	return len(s) >= 3 && s[0] == 'x' && isHex(s[1]) && isHex(s[2])
}
