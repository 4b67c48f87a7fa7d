package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// ErrNoTopic: a topic is missing and create_topics is off.
var ErrNoTopic = errors.New("topic does not exist")

// ready makes sure that a topic, by its Kafka name, exists, and returns its number
// of partitions. What it found is remembered until the topic's use fails.
func (b *Broker) ready(ctx context.Context, topic string) (partitions int, err error) {
	if known, ok := b.topics.Load(topic); ok {
		return known.(int), nil
	}
	detail, err := b.describe(ctx, topic)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		if !b.config.CreateTopics {
			return 0, fmt.Errorf("%w: %q: create it (kafka-topics.sh --bootstrap-server %s --create --topic %s --partitions 12), or let it be made with kafka.create_topics: true",
				ErrNoTopic, topic, b.config.Brokers[0], topic)
		}
		detail, err = b.create(ctx, topic, b.config.Partitions, b.config.Replication, nil)
	}
	if err != nil {
		return 0, fmt.Errorf("look up topic %q: %w", topic, err)
	}
	b.topics.Store(topic, len(detail.Partitions))
	return len(detail.Partitions), nil
}

func (b *Broker) describe(ctx context.Context, topic string) (kadm.TopicDetail, error) {
	topics, err := b.admin.ListTopics(ctx, topic)
	if err != nil {
		return kadm.TopicDetail{}, err
	}
	detail := topics[topic]
	if detail.Err != nil {
		return detail, detail.Err
	}
	if len(detail.Partitions) == 0 {
		return detail, kerr.UnknownTopicOrPartition
	}
	for _, partition := range detail.Partitions {
		if partition.Err != nil && !errors.Is(partition.Err, kerr.ReplicaNotAvailable) {
			return detail, partition.Err
		}
	}
	return detail, nil
}

// create makes a topic, or finds that another process just did, and waits until
// its partitions have leaders: the brokers learn of it one after the other.
func (b *Broker) create(ctx context.Context, topic string, partitions int32, replication int16, config map[string]*string) (kadm.TopicDetail, error) {
	made, err := b.admin.CreateTopic(ctx, partitions, replication, config, topic)
	if err == nil {
		err = made.Err
	}
	switch {
	case err == nil:
		b.config.Logger.Info("made a topic", "topic", topic)
	case !errors.Is(err, kerr.TopicAlreadyExists):
		if made.ErrMessage != "" {
			err = fmt.Errorf("%w: %s", err, made.ErrMessage)
		}
		return kadm.TopicDetail{}, fmt.Errorf("create it: %w", err)
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		detail, err := b.describe(ctx, topic)
		if err == nil || !errors.Is(err, kerr.UnknownTopicOrPartition) && !errors.Is(err, kerr.LeaderNotAvailable) {
			return detail, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return detail, fmt.Errorf("wait for it to be made: %w", context.Cause(ctx))
		}
	}
}

// readyIDLog makes sure that the log of processed IDs of a group on a topic exists
// and fits: as many partitions as the topic, kept for the window, never compacted.
func (b *Broker) readyIDLog(ctx context.Context, log, topic string, window time.Duration) error {
	input, err := b.describe(ctx, topic)
	if err != nil {
		return fmt.Errorf("look up topic %q: %w", topic, err)
	}
	detail, err := b.describe(ctx, log)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		replication := b.config.IDLogReplication
		if replication == 0 {
			replication = int16(len(input.Partitions[0].Replicas))
		}
		_, err = b.create(ctx, log, int32(len(input.Partitions)), replication, map[string]*string{
			"cleanup.policy": kadm.StringPtr("delete"),
			"retention.ms":   kadm.StringPtr(strconv.FormatInt(retention(window).Milliseconds(), 10)),
			// A segment is deleted whole: many of them, or the log outlives the
			// window by far.
			"segment.ms": kadm.StringPtr(strconv.FormatInt(max(window/8, time.Minute).Milliseconds(), 10)),
		})
		if err != nil {
			return fmt.Errorf("make log of processed IDs %q: %w", log, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up log of processed IDs %q: %w", log, err)
	}
	if found, expected := len(detail.Partitions), len(input.Partitions); found < expected {
		// The topic was given more partitions. The log follows, but events that
		// moved to another partition have left their IDs on the old one.
		b.config.Logger.Warn("the topic has more partitions than its log of processed IDs: adding them; copies of events from before that change partition are not recognised",
			"topic", topic, "log", log, "found", found, "expected", expected)
		if _, err := b.admin.UpdatePartitions(ctx, expected, log); err != nil {
			return fmt.Errorf("add partitions to log of processed IDs %q: %w", log, err)
		}
	} else if found > expected {
		return fmt.Errorf("log of processed IDs %q has %d partitions, expected %d as topic %q: the topic was made anew; delete the log, or name the topic differently", log, found, expected, topic)
	}
	return b.checkIDLog(ctx, log, window)
}

// retention is what a log of processed IDs needs to remember a window: Kafka
// deletes by the time of a segment's last record, so a little more is enough.
func retention(window time.Duration) time.Duration { return window + max(window/100, time.Minute) }

func (b *Broker) checkIDLog(ctx context.Context, log string, window time.Duration) error {
	settings, err := b.topicConfig(ctx, log)
	if err != nil {
		return fmt.Errorf("look up settings of log of processed IDs %q: %w", log, err)
	}
	if policy := settings["cleanup.policy"]; policy != "" && policy != "delete" {
		return fmt.Errorf("log of processed IDs %q has cleanup.policy=%s, expected delete: compaction would forget IDs; set it with kafka-configs.sh --alter --topic %s --add-config cleanup.policy=delete", log, policy, log)
	}
	if kept, err := strconv.ParseInt(settings["retention.ms"], 10, 64); err == nil && kept >= 0 && kept < window.Milliseconds() {
		return fmt.Errorf("log of processed IDs %q is kept for %s, expected at least the window of %s: set it with kafka-configs.sh --alter --topic %s --add-config retention.ms=%d, or make dedup.window shorter",
			log, time.Duration(kept)*time.Millisecond, window, log, retention(window).Milliseconds())
	}
	if size, err := strconv.ParseInt(settings["retention.bytes"], 10, 64); err == nil && size >= 0 {
		return fmt.Errorf("log of processed IDs %q has retention.bytes=%d, expected -1: IDs would be forgotten before the window is over; set it with kafka-configs.sh --alter --topic %s --add-config retention.bytes=-1", log, size, log)
	}
	return nil
}

// topicConfig returns the settings of a topic by name.
func (b *Broker) topicConfig(ctx context.Context, topic string) (map[string]string, error) {
	described, err := b.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	for _, resource := range described {
		if resource.Err != nil {
			return nil, resource.Err
		}
		for _, entry := range resource.Configs {
			settings[entry.Key] = entry.MaybeValue()
		}
	}
	return settings, nil
}
