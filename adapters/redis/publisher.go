package redis

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"github.com/hapax-go/hapax/internal/failpoint"
)

// publisher implements message.Publisher.
type publisher struct {
	broker *Broker
	closed atomic.Bool
}

// Publish appends the messages in order, in one round trip unless they are very many;
// concurrent calls share round trips. After an error some may be in the stream, the first
// ones; publishing them again makes copies with the same event IDs, which consumers see
// through.
func (p *publisher) Publish(topic string, messages ...*message.Message) error {
	if p.closed.Load() || p.broker.isClosed() {
		return fmt.Errorf("publish to %q: %w", topic, ErrClosed)
	}
	if len(messages) == 0 {
		return nil
	}
	entries := make([]encoded, len(messages))
	now := time.Now()
	for i, msg := range messages {
		var err error
		if entries[i], err = p.broker.encode(topic, msg, now); err != nil {
			return err
		}
	}
	if err := failpoint.Hit(failpoint.BeforePublish); err != nil {
		return err
	}
	if err := p.broker.publish(entries); err != nil {
		return fmt.Errorf("publish %d messages to %q: %w", len(messages), topic, permission(p.broker.config, err))
	}
	return failpoint.Hit(failpoint.AfterPublish)
}

// publication is one call of Publish.
type publication struct {
	entries []encoded
	done    chan error
}

const publishBatch = 256

// publish appends entries together with those of concurrent calls.
func (b *Broker) publish(entries []encoded) error {
	p := &publication{entries, make(chan error, 1)}
	b.publications.add(p)
	return <-p.done
}

// publishAll sends what several calls publish, in one pipeline. Each call learns of
// its own entries only.
func (b *Broker) publishAll(publications []*publication) {
	ctx, cancel := context.WithTimeout(context.Background(), b.config.Timeout)
	defer cancel()
	lots := make([][]encoded, len(publications))
	for i, p := range publications {
		lots[i] = p.entries
	}
	for i, err := range b.append(ctx, lots) {
		publications[i].done <- err
	}
}

// append adds lots of entries to their streams, as many as it can in one pipeline. Each
// lot has an error of its own: one that a stream refuses says nothing of the others. But
// none of a lot goes before one of it that was refused: sent again, it would come in
// another order.
func (b *Broker) append(ctx context.Context, lots [][]encoded) []error {
	errs, rest := make([]error, len(lots)), slices.Clone(lots)
	for {
		pipe := b.client.Pipeline()
		results := make([]redis.Cmder, len(lots))
		for i := range rest {
			if errs[i] == nil && len(rest[i]) > 0 {
				results[i], rest[i] = add(ctx, pipe, rest[i])
			}
		}
		if pipe.Len() == 0 {
			return errs
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
		for i, result := range results {
			if result != nil {
				errs[i] = result.Err()
			}
		}
	}
}

// appendLimit is the most entries of one script call; commitBytes is about how much they
// may carry.
const appendLimit = 512

// add adds the first entries of a lot, those of one stream that may go together, and
// returns the rest.
func add(ctx context.Context, pipe redis.Pipeliner, entries []encoded) (redis.Cmder, []encoded) {
	topic, args := entries[0].topic, []any(nil)
	for size := 0; len(entries) > 0 && entries[0].topic == topic && size < commitBytes && len(args) < 3*appendLimit; entries = entries[1:] {
		e := &entries[0]
		args = append(args, &e.uuid, &e.metadata, &e.body)
		size += len(e.metadata) + len(e.body)
	}
	if len(args) > 3 {
		return pipe.Eval(ctx, appendSource, []string{topic}, args...), entries
	}
	return pipe.XAdd(ctx, &redis.XAddArgs{Stream: topic, Values: []any{
		redisstream.UUIDHeaderKey, args[0], "metadata", args[1], "payload", args[2],
	}}), entries
}

// Close makes later calls of Publish fail. The broker stays open.
func (p *publisher) Close() error {
	p.closed.Store(true)
	return nil
}
