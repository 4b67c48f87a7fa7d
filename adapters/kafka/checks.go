package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// Checks implements adapters.Checker. The clocks are not compared: Kafka's brokers
// do not tell their time.
func (b *Broker) Checks(ctx context.Context, uses []adapters.Use) (findings []adapters.Finding) {
	nodes, err := b.admin.ListBrokers(ctx)
	if err != nil {
		return []adapters.Finding{{
			Name: "kafka-brokers", Fatal: true, Problem: fmt.Sprintf("the cluster cannot be asked for its brokers: %v", err),
			Fix: "check the addresses, and that the brokers run",
		}}
	}
	findings = append(findings, adapters.Finding{Name: "kafka-brokers", Found: fmt.Sprintf("%d in the cluster", len(nodes))})
	looked := map[string]bool{}
	for _, use := range uses {
		for _, topic := range []string{use.Topic, use.DeadLetter} {
			if topic == "" || looked[topic] {
				continue
			}
			looked[topic] = true
			name, err := b.topicName(topic)
			if err != nil {
				findings = append(findings, adapters.Finding{
					Name: "kafka-topic", About: topic, Fatal: true, Problem: err.Error(), Fix: "choose another name under topics in the config",
				})
				continue
			}
			found := b.topicFindings(ctx, name, len(nodes))
			switch {
			case topic == use.Topic && use.Strategy != dedup.StrategyNone:
				found = append(found, b.retentionFindings(ctx, name, use.Window)...)
			case topic != use.Topic && !found[0].OK():
				// Events that cannot be processed come again instead: nothing is lost.
				found[0].Name, found[0].Fatal = "kafka-dead-letters", false
			}
			findings = append(findings, found...)
		}
		if use.Strategy == dedup.StrategyTransaction {
			findings = append(findings, b.logFindings(ctx, use, len(nodes))...)
		}
	}
	return append(findings, b.collisions(ctx, uses)...)
}

// topicFindings looks at one topic, by its Kafka name. Its first finding is
// whether it exists, and how many partitions it has.
func (b *Broker) topicFindings(ctx context.Context, topic string, nodes int) []adapters.Finding {
	detail, err := b.describe(ctx, topic)
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition) && b.config.CreateTopics:
		return []adapters.Finding{{Name: "kafka-topic", About: topic, Found: "missing; kafka.create_topics makes it"}}
	case err != nil:
		return []adapters.Finding{{
			Name: "kafka-topic", About: topic, Fatal: true,
			Problem: fmt.Sprintf("the topic cannot be looked up: %v", err),
			Fix:     "create the topic, or set kafka.create_topics: true, or give this user the right to describe it",
		}}
	}
	findings := []adapters.Finding{{Name: "kafka-topic", About: topic, Found: fmt.Sprintf("%d partitions", len(detail.Partitions))}}
	settings, err := b.topicConfig(ctx, topic)
	if err != nil {
		return append(findings, adapters.Finding{
			Name: "kafka-topic-config", About: topic,
			Problem: fmt.Sprintf("the settings cannot be read: %v", err),
			Fix:     "give this user the right DESCRIBE_CONFIGS on its topics, so that they can be checked",
		})
	}
	// The partition with the fewest replicas is the one that loses something.
	replicas := len(detail.Partitions[0].Replicas)
	for _, partition := range detail.Partitions {
		replicas = min(replicas, len(partition.Replicas))
	}
	inSync, _ := strconv.Atoi(settings["min.insync.replicas"])
	return append(findings, replication(topic, replicas, nodes), minISR(topic, inSync, replicas),
		uncleanElection(topic, settings["unclean.leader.election.enable"]))
}

func replication(topic string, replicas, nodes int) adapters.Finding {
	finding := adapters.Finding{Name: "kafka-replication", About: topic}
	if replicas >= 2 {
		finding.Found = fmt.Sprintf("%d replicas", replicas)
		return finding
	}
	// A cluster of one is a development machine, where there is no second disk.
	finding.Fatal = nodes > 1
	finding.Problem = fmt.Sprintf("it has 1 replica on %d brokers: a lost disk loses its messages, and what was processed", nodes)
	finding.Fix = "use a replication factor of 3 (kafka-reassign-partitions.sh) for anything but development"
	return finding
}

func minISR(topic string, inSync, replicas int) adapters.Finding {
	finding := adapters.Finding{Name: "kafka-min-isr", About: topic, Fatal: true}
	switch {
	case inSync > replicas:
		finding.Problem = fmt.Sprintf("min.insync.replicas=%d, but it has %d replicas: no transaction can commit", inSync, replicas)
		finding.Fix = fmt.Sprintf("kafka-configs.sh --alter --topic %s --add-config min.insync.replicas=%d, or add replicas", topic, max(replicas-1, 1))
	case inSync < 2 && replicas >= 2:
		finding.Problem = fmt.Sprintf("min.insync.replicas=%d, expected at least 2: an acknowledged message, or the ID of a processed one, may be on one disk only, and be lost with it", inSync)
		finding.Fix = fmt.Sprintf("kafka-configs.sh --alter --topic %s --add-config min.insync.replicas=2", topic)
	default:
		finding.Fatal, finding.Found = false, fmt.Sprintf("min.insync.replicas=%d of %d", inSync, replicas)
	}
	return finding
}

func uncleanElection(topic, enabled string) adapters.Finding {
	finding := adapters.Finding{Name: "kafka-unclean-election", About: topic, Found: "off"}
	if enabled == "true" {
		finding.Fatal, finding.Found = true, ""
		finding.Problem = "unclean.leader.election.enable=true: acknowledged messages and processed IDs can vanish"
		finding.Fix = fmt.Sprintf("kafka-configs.sh --alter --topic %s --add-config unclean.leader.election.enable=false", topic)
	}
	return finding
}

// retentionFindings compares how long a topic keeps messages with the window. A
// group that lost its offsets begins with the oldest message that is kept, so
// that is the oldest that may come again. It takes no operator to lose them: Kafka
// forgets the offsets of a group that was away for offsets.retention.minutes.
func (b *Broker) retentionFindings(ctx context.Context, topic string, window time.Duration) []adapters.Finding {
	settings, err := b.topicConfig(ctx, topic)
	if err != nil {
		return nil // topicFindings has said so
	}
	finding := adapters.Finding{Name: "kafka-retention", About: topic}
	kept, err := strconv.ParseInt(settings["retention.ms"], 10, 64)
	switch {
	case settings["cleanup.policy"] != "" && settings["cleanup.policy"] != "delete":
		finding.Fatal = true
		finding.Problem = fmt.Sprintf("cleanup.policy=%s: compaction may remove an event before it was processed, when a newer one has its key", settings["cleanup.policy"])
		finding.Fix = fmt.Sprintf("kafka-configs.sh --alter --topic %s --add-config cleanup.policy=delete", topic)
	case err != nil:
		finding.Problem = "retention.ms is not told, so it cannot be compared with dedup.window"
		finding.Fix = "make sure yourself that the topic keeps messages no longer than dedup.window"
	case kept < 0:
		finding.Fatal = true
		finding.Problem = fmt.Sprintf("it keeps messages for ever, but dedup.window is %s: when the group's offsets are lost or reset, what is older than that takes effect again", window)
		finding.Fix = fmt.Sprintf("set retention.ms=%d on the topic, or a longer dedup.window", window.Milliseconds())
	case kept > window.Milliseconds():
		finding.Fatal = true
		finding.Problem = fmt.Sprintf("it keeps messages for %s, longer than dedup.window of %s: when the group's offsets are lost or reset, what is older than the window takes effect again", time.Duration(kept)*time.Millisecond, window)
		finding.Fix = fmt.Sprintf("set dedup.window to %s, or retention.ms=%d on the topic", time.Duration(kept)*time.Millisecond, window.Milliseconds())
	default:
		finding.Found = fmt.Sprintf("kept %s, window %s", time.Duration(kept)*time.Millisecond, window)
	}
	return []adapters.Finding{finding}
}

// logFindings looks at the log of processed IDs of a group on a topic.
func (b *Broker) logFindings(ctx context.Context, use adapters.Use, nodes int) []adapters.Finding {
	input, err := b.topicName(use.Topic)
	if err != nil {
		return nil
	}
	log := IDLogName(use.Group, input)
	detail, err := b.describe(ctx, log)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return []adapters.Finding{{Name: "kafka-id-log", About: log, Found: "missing; made at the first start"}}
	}
	findings := slices.DeleteFunc(b.topicFindings(ctx, log, nodes), func(f adapters.Finding) bool { return f.Name == "kafka-topic" && f.OK() })
	if err != nil {
		return findings
	}
	finding := adapters.Finding{Name: "kafka-id-log", About: log, Found: fmt.Sprintf("kept for the window of %s", use.Window)}
	problem := b.checkIDLog(ctx, log, use.Window)
	if topic, err := b.describe(ctx, input); err == nil && problem == nil && len(detail.Partitions) > len(topic.Partitions) {
		problem = fmt.Errorf("it has %d partitions, the topic %d: the topic was made anew", len(detail.Partitions), len(topic.Partitions))
	}
	if problem != nil {
		finding.Fatal, finding.Found, finding.Problem = true, "", problem.Error()
		finding.Fix = "set the topic as the message says; or delete it, which forgets what was processed"
	}
	return append(findings, finding)
}
