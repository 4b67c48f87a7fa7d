package redis

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

const maintenanceInterval = 10 * time.Second

// maintain looks after the stream from time to time, until the consumer has left:
// it trims, reports losses and removes consumers that died holding nothing. Every
// consumer does it, each in its own time: none of it needs to be done only once.
func (c *consumer) maintain() {
	ticker := time.NewTicker(maintenanceInterval)
	defer ticker.Stop()
	for {
		select {
		case <-c.left:
			return
		case <-ticker.C:
		}
		ctx, cancel := context.WithTimeout(c.broker.ctx, c.broker.config.Timeout)
		err := c.broker.Trim(ctx, c.topic)
		if err == nil {
			err = c.removeIdle(ctx)
		}
		cancel()
		if err != nil && c.broker.ctx.Err() == nil {
			c.broker.config.Logger.Warn("look after stream: trying again", "topic", c.topic, "error", err)
		}
	}
}

// Trim does at once what consumers do every ten seconds: it removes from a stream
// what is beyond Config.MaxLength or MaxAge and was acknowledged by every group, and
// reports groups whose unread entries somebody else has removed.
func (b *Broker) Trim(ctx context.Context, topic string) error {
	oldest := int64(0)
	if b.config.MaxAge > 0 {
		oldest = time.Now().Add(-b.config.MaxAge).UnixMilli()
	}
	for {
		reply, err := trimScript.Run(ctx, b.client, []string{topic}, b.config.MaxLength, oldest).Slice()
		if err != nil {
			return fmt.Errorf("trim stream %q: %w", topic, err)
		}
		for _, group := range reply[1:] {
			b.reportUnread(topic, fmt.Sprint(group))
		}
		if removed, _ := reply[0].(int64); removed < 5000 {
			return nil
		}
	}
}

// reportUnread reports, once for each group of this broker, that entries were removed
// before the group read them. How many is not known.
func (b *Broker) reportUnread(topic, group string) {
	if _, reported := b.unread.LoadOrStore(topic+"\x00"+group, true); reported {
		return
	}
	b.losses.Add(1)
	b.config.Logger.Error("messages lost: entries were trimmed or deleted from the stream before the group had read them", "topic", topic, "group", group)
}

// removeIdle removes consumers that are no members, hold nothing and were not heard
// of for longer than the lease and ten minutes: those of processes that were killed,
// after others have taken over what they held. Between the look and the removal such
// a consumer cannot get anything: only its own process could read in its name, and a
// process joins under a new name.
func (c *consumer) removeIdle(ctx context.Context) error {
	consumers, err := c.broker.client.XInfoConsumers(ctx, c.topic, c.subscription.Group).Result()
	if isGone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list consumers: %w", err)
	}
	for _, other := range consumers {
		if other.Pending > 0 || other.Idle < c.broker.config.Lease+c.broker.config.IdleConsumer {
			continue
		}
		err := removeScript.Run(ctx, c.broker.client, []string{c.keys.members, c.topic, c.keys.mail + other.Name}, other.Name, c.subscription.Group).Err()
		if err != nil && err != redis.Nil { //nolint:errorlint // go-redis returns it as it is
			return fmt.Errorf("remove idle consumer: %w", err)
		}
	}
	return nil
}
