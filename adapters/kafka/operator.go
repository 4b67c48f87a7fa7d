package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// What an operator asks for: reads outside of any group, of committed records.

func (b *Broker) browsed(ctx context.Context, topic string, r *kgo.Record) *message.Message {
	msg, err := decode(r)
	if err != nil {
		msg = message.NewMessage("", r.Value)
	}
	msg.SetContext(adapters.WithDelivery(ctx, &adapters.Delivery{Attempt: 1, Position: fmt.Sprintf("%s/%d@%d", topic, r.Partition, r.Offset)}))
	return msg
}

// Browse implements adapters.Browser. Partitions are read side by side, so that
// only messages of one partition come in their order.
func (b *Broker) Browse(ctx context.Context, topic string, options adapters.Browse, each func(*message.Message) error) error {
	name, err := b.topicName(topic)
	if err != nil {
		return err
	}
	stretches, err := b.extent(ctx, name)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		if err = options.Missing(topic); err == nil {
			stretches, err = b.awaitTopic(ctx, name)
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	if !options.Follow {
		return b.readLog(ctx, name, drop(stretches, nil), func(r *kgo.Record) error {
			if r.Timestamp.Before(options.From) {
				return nil
			}
			return each(b.browsed(ctx, topic, r))
		}, func(int32) {})
	}
	from := kgo.NewOffset().AtStart()
	if !options.From.IsZero() {
		from = kgo.NewOffset().AfterMilli(options.From.UnixMilli())
	}
	client, err := b.config.newClient(roleReader, kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(from),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(200*time.Millisecond))
	if err != nil {
		return fmt.Errorf("open reader of %q: %w", name, err)
	}
	defer client.Close()
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		for _, failed := range fetches.Errors() {
			return fmt.Errorf("read %s/%d: %w", failed.Topic, failed.Partition, failed.Err)
		}
		for _, r := range fetches.Records() {
			if err := each(b.browsed(ctx, topic, r)); err != nil {
				return err
			}
		}
	}
}

// awaitTopic waits until a topic exists.
func (b *Broker) awaitTopic(ctx context.Context, name string) (stretches map[int32]stretch, err error) {
	for {
		stretches, err = b.extent(ctx, name)
		if !errors.Is(err, kerr.UnknownTopicOrPartition) {
			return stretches, err
		}
		select {
		case <-time.After(browsePoll):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// browsePoll is how often a follower looks for its topic.
const browsePoll = 200 * time.Millisecond

// drop leaves out partitions that hold nothing, or nothing from an offset on:
// readLog would wait for the end of what has none.
func drop(stretches map[int32]stretch, from map[int32]int64) map[int32]stretch {
	for number, s := range stretches {
		s.from = max(s.from, from[number])
		stretches[number] = s
		if s.from >= s.to {
			delete(stretches, number)
		}
	}
	return stretches
}

func missingIsEmpty(err error) error {
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil
	}
	return err
}

// Remember implements adapters.Rememberer. It reads the whole log of processed IDs,
// which takes a second or so for a million of them.
func (b *Broker) Remember(ctx context.Context, topic string, options adapters.StrategyOptions, entries []*dedup.Entry) error {
	name, err := b.topicName(topic)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		entry.Verdict = dedup.Fresh
	}
	log, oldest := IDLogName(options.Group, name), time.Now().Add(-options.Window)
	stretches, err := b.extent(ctx, log)
	if err != nil {
		return missingIsEmpty(err)
	}
	wanted := map[dedup.ID]*dedup.Entry{}
	for _, entry := range entries {
		wanted[entry.ID] = entry
	}
	return b.readLog(ctx, log, drop(stretches, nil), func(r *kgo.Record) error {
		if r.Timestamp.Before(oldest) {
			return nil
		}
		return readIDs(r.Value, func(id dedup.ID, digest [4]byte) error {
			entry := wanted[id]
			if entry == nil || entry.Verdict != dedup.Fresh { // the first one counts
				return nil
			}
			entry.Verdict = dedup.Duplicate
			if short := fingerprint(entry.Digest); short != digest && short != ([4]byte{}) && digest != ([4]byte{}) {
				entry.Verdict = dedup.Conflict
			}
			return nil
		})
	}, func(int32) {})
}
