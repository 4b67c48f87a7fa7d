package plain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Loop is what one would write by hand for throughput: XREADGROUP of a batch, then
// one pipeline of an XADD for each output and an XACK of the batch. No
// deduplication, and no order of keys.
type Loop struct {
	Server
	In, Out string
	Group   string
	Batch   int
	Produce bool
	Handle  func(uuid string)
	Done    func(uuid string) // after the pipeline
	Total   int
	client  *redis.Client
}

// Run processes Total messages.
func (l *Loop) Run(ctx context.Context) error {
	l.client = l.connect()
	defer l.client.Close()
	err := l.client.XGroupCreateMkStream(ctx, l.In, l.Group, "0").Err()
	if err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") {
		return fmt.Errorf("create group: %w", err)
	}
	for done := 0; done < l.Total; {
		streams, err := l.client.XReadGroup(ctx, &redis.XReadGroupArgs{
			Group: l.Group, Consumer: "by-hand", Streams: []string{l.In, ">"}, Count: int64(l.Batch), Block: 100 * time.Millisecond,
		}).Result()
		if errors.Is(err, redis.Nil) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if err := l.process(ctx, streams[0].Messages); err != nil {
			return err
		}
		done += len(streams[0].Messages)
	}
	return nil
}

func (l *Loop) process(ctx context.Context, entries []redis.XMessage) error {
	ids := make([]string, len(entries))
	_, err := l.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, entry := range entries {
			ids[i] = entry.ID
			uuid, _ := entry.Values["_watermill_message_uuid"].(string)
			l.Handle(uuid)
			if l.Produce {
				pipe.XAdd(ctx, &redis.XAddArgs{Stream: l.Out, Values: []any{
					"_watermill_message_uuid", uuid, "metadata", entry.Values["metadata"], "payload", entry.Values["payload"],
				}})
			}
		}
		pipe.XAck(ctx, l.In, l.Group, ids...)
		return nil
	})
	if err != nil {
		return fmt.Errorf("publish and acknowledge: %w", err)
	}
	for _, entry := range entries {
		uuid, _ := entry.Values["_watermill_message_uuid"].(string)
		l.Done(uuid)
	}
	return nil
}
