package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis/internal/marks"
	"github.com/hapax-go/hapax/dedup"
)

// What an operator asks for: plain reads of the stream, outside of any group.

const browsePage = 100

func browsed(ctx context.Context, topic string, entry redis.XMessage) *message.Message {
	msg := decode(entry.Values)
	msg.SetContext(adapters.WithDelivery(ctx, &adapters.Delivery{Attempt: 1, Position: topic + "@" + entry.ID}))
	return msg
}

// Browse implements adapters.Browser.
func (b *Broker) Browse(ctx context.Context, topic string, options adapters.Browse, each func(*message.Message) error) error {
	after := "0"
	if !options.From.IsZero() { // an ID begins with the server's time in milliseconds
		after = strconv.FormatInt(max(options.From.UnixMilli()-1, 0), 10) + "-18446744073709551615"
	}
	exists, err := b.client.Exists(ctx, topic).Result()
	if err == nil && exists == 0 {
		err = options.Missing(topic)
	}
	if err != nil {
		return b.reading(topic, err)
	}
	for {
		// Not XREAD BLOCK: it would hold a connection that a cancelled caller leaves
		// to the pool in the middle of an answer.
		entries, err := b.client.XRangeN(ctx, topic, "("+after, "+", browsePage).Result()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read stream %q: %w", topic, err)
		}
		for _, entry := range entries {
			after = entry.ID
			if err := each(browsed(ctx, topic, entry)); err != nil {
				return err
			}
		}
		if len(entries) == browsePage {
			continue
		}
		if !options.Follow {
			return nil
		}
		select {
		case <-time.After(browsePoll):
		case <-ctx.Done():
			return nil
		}
	}
}

// browsePoll is how often a follower looks: a person does not notice.
const browsePoll = 50 * time.Millisecond

// Letters implements adapters.LetterBox. A removed letter leaves the stream.
func (b *Broker) Letters(ctx context.Context, topic string, visit func(*message.Message) (bool, error)) error {
	newest, err := b.client.XRevRangeN(ctx, topic, "+", "-", 1).Result()
	if err != nil || len(newest) == 0 {
		return b.reading(topic, err)
	}
	for after := "("; ; {
		from := "-"
		if after != "(" {
			from = after
		}
		entries, err := b.client.XRangeN(ctx, topic, from, newest[0].ID, browsePage).Result()
		if err != nil {
			return b.reading(topic, err)
		}
		var removed []string
		for _, entry := range entries {
			var remove bool
			if remove, err = visit(browsed(ctx, topic, entry)); err != nil {
				break
			}
			if remove {
				removed = append(removed, entry.ID)
			}
			after = "(" + entry.ID
		}
		if err := errors.Join(err, b.remove(context.WithoutCancel(ctx), topic, removed)); err != nil || len(entries) < browsePage {
			return err
		}
	}
}

func (b *Broker) reading(topic string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read stream %q: %w", topic, err)
}

// remove deletes entries. They are acknowledged for every group first, or those
// that have one pending would report it as lost.
func (b *Broker) remove(ctx context.Context, topic string, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	groups, err := b.client.XInfoGroups(ctx, topic).Result()
	if err != nil && !isGone(err) {
		return fmt.Errorf("remove %d entries of stream %q: %w", len(ids), topic, err)
	}
	pipe := b.client.TxPipeline()
	for _, group := range groups {
		pipe.XAck(ctx, topic, group.Name, ids...)
	}
	pipe.XDel(ctx, topic, ids...)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("remove %d entries of stream %q: %w", len(ids), topic, err)
	}
	return nil
}

// Remember implements adapters.Rememberer: a look, as an optimistic claim is.
func (b *Broker) Remember(ctx context.Context, topic string, options adapters.StrategyOptions, entries []*dedup.Entry) error {
	set := b.marks(topic, options.Window)
	args := []any{"", set.SliceLength(), 0, 0}
	for _, entry := range entries {
		args = append(args, &mark{id: entry.ID, tag: marks.NewTag(entry.Digest)})
	}
	group := b.keys(topic, options.Group)
	keys := []string{group.members, set.Key, b.leasesPrefix(topic), group.windows}
	verdicts, err := claimScript.Run(ctx, b.client, keys, args...).Int64Slice()
	if err == nil && len(verdicts) != len(entries) {
		err = fmt.Errorf("the script answered %d of %d", len(verdicts), len(entries))
	}
	if err != nil {
		return fmt.Errorf("look up marks on redis: %w", err)
	}
	for i, entry := range entries {
		entry.Verdict = dedup.Verdict(verdicts[i])
	}
	return nil
}
