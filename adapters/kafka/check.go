package kafka

import (
	"context"
	"fmt"
	"strconv"

	"github.com/hapax-go/hapax/adapters"
)

// Check implements adapters.Broker: it looks at the topics that this Broker uses.
func (b *Broker) Check(ctx context.Context) (findings []adapters.Finding) {
	for _, topic := range b.used() {
		detail, err := b.describe(ctx, topic)
		if err != nil {
			findings = append(findings, adapters.Finding{
				Name: "kafka-topic", Fatal: true,
				Problem: fmt.Sprintf("topic %q cannot be looked up: %v", topic, err),
				Fix:     "create the topic, or give this user the right to describe it",
			})
			continue
		}
		settings, err := b.topicConfig(ctx, topic)
		if err != nil {
			findings = append(findings, adapters.Finding{
				Name:    "kafka-topic-config",
				Problem: fmt.Sprintf("the settings of topic %q cannot be read: %v", topic, err),
				Fix:     "give this user the right DESCRIBE_CONFIGS on its topics, so that they can be checked",
			})
			continue
		}
		replicas := len(detail.Partitions[0].Replicas)
		inSync, _ := strconv.Atoi(settings["min.insync.replicas"])
		switch {
		case replicas < 2:
			findings = append(findings, adapters.Finding{
				Name:    "kafka-replication",
				Problem: fmt.Sprintf("topic %q has %d replica: a lost disk loses its messages, and what was processed", topic, replicas),
				Fix:     "use a replication factor of 3 for anything but development",
			})
		case inSync < 2:
			findings = append(findings, adapters.Finding{
				Name:    "kafka-min-isr",
				Problem: fmt.Sprintf("topic %q has min.insync.replicas=%d: an acknowledged message may be on one disk only", topic, inSync),
				Fix:     fmt.Sprintf("kafka-configs.sh --alter --topic %s --add-config min.insync.replicas=2", topic),
			})
		}
		if settings["unclean.leader.election.enable"] == "true" {
			findings = append(findings, adapters.Finding{
				Name: "kafka-unclean-election", Fatal: true,
				Problem: fmt.Sprintf("topic %q has unclean.leader.election.enable=true: acknowledged messages and processed IDs can vanish", topic),
				Fix:     fmt.Sprintf("kafka-configs.sh --alter --topic %s --add-config unclean.leader.election.enable=false", topic),
			})
		}
	}
	return append(findings, b.checkLogs(ctx)...)
}

// used are the topics known to this Broker, with the logs of processed IDs.
func (b *Broker) used() (topics []string) {
	b.topics.Range(func(name, _ any) bool {
		topics = append(topics, name.(string))
		return true
	})
	for _, c := range b.consumers() {
		if b.window(c.subscription.Group) > 0 {
			topics = append(topics, c.idLog)
		}
	}
	return topics
}

// checkLogs compares the logs of processed IDs with their window.
func (b *Broker) checkLogs(ctx context.Context) (findings []adapters.Finding) {
	for _, c := range b.consumers() {
		window := b.window(c.subscription.Group)
		if window == 0 {
			continue
		}
		if err := b.checkIDLog(ctx, c.idLog, window); err != nil {
			findings = append(findings, adapters.Finding{
				Name: "kafka-id-log", Fatal: true, Problem: err.Error(),
				Fix: "set the topic as the message says, or change dedup.window",
			})
		}
	}
	return findings
}
