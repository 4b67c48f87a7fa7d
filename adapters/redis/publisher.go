package redis

import (
	"context"
	"fmt"
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

// Publish appends the messages in order, in one round trip; concurrent
// calls share round trips. After an error some may be in the stream, the first ones; publishing them again makes copies with the same event IDs, which consumers see through.
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

// append adds lots of entries to their streams in one pipeline. Each lot has an error of
// its own: one that a stream refuses says nothing of the others.
func (b *Broker) append(ctx context.Context, lots [][]encoded) []error {
	pipe := b.client.Pipeline()
	results := make([][]*redis.StringCmd, len(lots))
	for i, entries := range lots {
		results[i] = add(ctx, pipe, entries)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	errs := make([]error, len(lots))
	for i := range lots {
		for _, result := range results[i] {
			if errs[i] = result.Err(); errs[i] != nil {
				break
			}
		}
	}
	return errs
}

func add(ctx context.Context, pipe redis.Pipeliner, entries []encoded) []*redis.StringCmd {
	results := make([]*redis.StringCmd, len(entries))
	for i := range entries {
		e := &entries[i]
		results[i] = pipe.XAdd(ctx, &redis.XAddArgs{Stream: e.topic, Values: []any{
			redisstream.UUIDHeaderKey, &e.uuid, "metadata", &e.metadata, "payload", &e.body,
		}})
	}
	return results
}

// Close makes later calls of Publish fail. The broker stays open.
func (p *publisher) Close() error {
	p.closed.Store(true)
	return nil
}
