package rabbitmq

import (
	"fmt"
	"strings"
)

// maxName is the longest name of an exchange or queue, in bytes.
const maxName = 255

// exchangeName is the exchange of a topic: the topic's own name, as the official
// Watermill adapter has it.
func exchangeName(topic string) (string, error) {
	switch {
	case topic == "":
		return "", fmt.Errorf("the topic is empty")
	case len(topic) > maxName:
		return "", fmt.Errorf("topic %q has %d bytes, RabbitMQ allows %d: give it a shorter name under topics in the config", topic, len(topic), maxName)
	case strings.HasPrefix(topic, "amq."):
		return "", fmt.Errorf("topic %q begins with amq., which RabbitMQ keeps for itself: give it another name under topics in the config", topic)
	}
	return topic, nil
}

// escaped makes the first underscore of a queue's name the one between topic and
// group, so that no two pairs share a queue.
var escaped = strings.NewReplacer("%", "%25", "_", "%5F")

// queueName is the queue of a group: "topic_group", as the official adapter's
// GenerateQueueNameTopicNameWithSuffix has it. Underscores and percent signs in
// the topic, and only there, are percent-encoded.
func queueName(topic, group string) (string, error) { return queueVariant(topic, "", group) }

// queueVariant is the name of something else that a group has for a topic, such as
// one of its partitions. No topic is escaped to one that ends in %variant.
func queueVariant(topic, variant, group string) (string, error) {
	if group == "" {
		return "", fmt.Errorf("the subscription has no group")
	}
	name := escaped.Replace(topic) + variant + "_" + group
	if len(name) > maxName || strings.HasPrefix(name, "amq.") {
		return "", fmt.Errorf("the queue of topic %q and group %q would be named %q: RabbitMQ allows %d bytes and no amq. in front; shorten the topic's or the service's name", topic, group, name, maxName)
	}
	return name, nil
}

var unescaped = strings.NewReplacer("%25", "%", "%5F", "_")

// topicOf is the topic of a group's queue, or of a variant of it; empty when the name is
// no such queue's.
func topicOf(queue string) string {
	name, _, found := strings.Cut(queue, "_")
	if !found {
		return ""
	}
	for i := range len(name) {
		if rest := name[i:]; rest[0] == '%' && !strings.HasPrefix(rest, "%25") && !strings.HasPrefix(rest, "%5F") {
			name = name[:i] // the variant
			break
		}
	}
	return unescaped.Replace(name)
}
