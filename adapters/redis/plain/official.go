package plain

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"
)

// Server is a database of a Redis server.
type Server struct {
	Address string
	DB      int
}

func (s Server) connect() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.Address, DB: s.DB})
}

// Publisher opens the official publisher. It closes its own connection.
func (s Server) Publisher() (message.Publisher, error) {
	return redisstream.NewPublisher(redisstream.PublisherConfig{Client: s.connect()}, watermill.NopLogger{})
}

// Subscriber opens the official subscriber. Entries are taken over from dead
// consumers after idle; the default is a minute.
func (s Server) Subscriber(group string, idle time.Duration) (message.Subscriber, error) {
	return redisstream.NewSubscriber(redisstream.SubscriberConfig{
		Client: s.connect(), ConsumerGroup: group, MaxIdleTime: idle, ClaimInterval: idle / 2,
		// Otherwise it cannot be closed while its first read waits.
		DisableIndefiniteInitialBlock: true,
	}, watermill.NopLogger{})
}

// Payloads reads a stream from its beginning, without any adapter.
func (s Server) Payloads(ctx context.Context, stream string) ([][]byte, error) {
	client := s.connect()
	defer client.Close()
	var payloads [][]byte
	for from := "-"; ; {
		entries, err := client.XRangeN(ctx, stream, from, "+", 1000).Result()
		if err != nil || len(entries) == 0 {
			return payloads, err
		}
		for _, entry := range entries {
			payload, _ := entry.Values["payload"].(string)
			payloads = append(payloads, []byte(payload))
			from = "(" + entry.ID
		}
	}
}

// Length counts the entries of a stream.
func (s Server) Length(ctx context.Context, stream string) (int, error) {
	client := s.connect()
	defer client.Close()
	n, err := client.XLen(ctx, stream).Result()
	return int(n), err
}

// marker stands in a database that Take has taken.
const marker = "hapax:demo"

// Take empties a database for a run, if it is empty or an earlier run has taken
// it. Somebody's data is an error.
func (s Server) Take(ctx context.Context) error {
	client := s.connect()
	defer client.Close()
	size, err := client.DBSize(ctx).Result()
	if err != nil {
		return fmt.Errorf("look at redis database %d: %w", s.DB, err)
	}
	ours, err := client.Exists(ctx, marker).Result()
	if err != nil {
		return fmt.Errorf("look at redis database %d: %w", s.DB, err)
	}
	if size > 0 && ours == 0 {
		return fmt.Errorf("redis database %d at %s has %d keys that are not of this program: it is not touched; empty it yourself, or use another server", s.DB, s.Address, size)
	}
	if err := client.FlushDB(ctx).Err(); err != nil {
		return fmt.Errorf("empty redis database %d: %w", s.DB, err)
	}
	return client.Set(ctx, marker, "1", 0).Err()
}

// Delete removes the keys that match patterns.
func (s Server) Delete(ctx context.Context, patterns ...string) error {
	client := s.connect()
	defer client.Close()
	for _, pattern := range patterns {
		keys := client.Scan(ctx, 0, pattern, 1000).Iterator()
		for keys.Next(ctx) {
			if err := client.Unlink(ctx, keys.Val()).Err(); err != nil {
				return err
			}
		}
		if err := keys.Err(); err != nil {
			return err
		}
	}
	return nil
}
