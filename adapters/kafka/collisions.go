package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// collisions finds topics of this service that differ only by '.' and '_'. Kafka makes the
// first of them and refuses the other, and logs of processed IDs are made with the first
// message only: the service would be ready, and one of its handlers process nothing. Where
// both are there already, nobody has refused them.
func (b *Broker) collisions(ctx context.Context, uses []adapters.Use) (findings []adapters.Finding) {
	type owner struct{ topic, what string }
	first := map[string]owner{} // by what Kafka compares
	look := func(check, topic, what string) {
		like := strings.ReplaceAll(topic, ".", "_")
		other, taken := first[like]
		switch {
		case !taken:
			first[like] = owner{topic, what}
		case other.topic != topic && (b.missing(ctx, topic) || b.missing(ctx, other.topic)):
			findings = append(findings, adapters.Finding{
				Name: check, About: topic, Fatal: true,
				Problem: fmt.Sprintf("%s and %s would be topics %q and %q, and Kafka makes only one of two that differ in dots and underscores", other.what, what, other.topic, topic),
				Fix:     "give one of the handlers or topics another name, one that has not run yet: a handler processes everything again under another name",
			})
		}
	}
	for _, use := range uses {
		topic, err := b.topicName(use.Topic)
		if err != nil {
			continue // Checks has said so
		}
		look("kafka-topic", topic, fmt.Sprintf("topic %q", use.Topic))
		if letters, err := b.topicName(use.DeadLetter); err == nil && use.DeadLetter != "" {
			look("kafka-topic", letters, fmt.Sprintf("dead-letter topic %q", use.DeadLetter))
		}
		if use.Strategy == dedup.StrategyTransaction {
			look("kafka-id-log", IDLogName(use.Group, topic), fmt.Sprintf("the log of processed IDs of group %q on topic %q", use.Group, use.Topic))
		}
	}
	return findings
}

func (b *Broker) missing(ctx context.Context, topic string) bool {
	_, err := b.describe(ctx, topic)
	return errors.Is(err, kerr.UnknownTopicOrPartition)
}
