package kafka

import (
	"errors"
	"maps"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
)

// Metadata of dead letters.
const (
	metaDeadReason = "hapax_dead_reason"
	metaDeadTopic  = "hapax_dead_topic"
	metaAttempts   = "hapax_dead_attempts"
)

// bury moves a message to the dead-letter topic: with its offset in one
// transaction where the group has them, else the letter first. It is tried until
// it works.
func (c *consumer) bury(d *delivery, reason string) {
	d.partition.hold()
	letter, err := decode(d.record)
	if err != nil {
		letter = message.NewMessage("", d.record.Value)
	}
	maps.Copy(letter.Metadata, message.Metadata{
		metaDeadReason: reason, metaDeadTopic: c.topic, metaAttempts: strconv.Itoa(d.attempts),
		dedup.MetaDeadGroup: c.subscription.Group,
	})
	c.logger.Error("message goes to the dead-letter topic", "position", d.Position, "reason", reason)
	output := dedup.Output{Topic: c.subscription.LetterTopic(c.topic), Message: letter}
	c.goroutines.Go(func() {
		defer d.partition.exit()
		for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
			err := c.send(d, output)
			if err == nil || errors.Is(err, dedup.ErrLeaseLost) || c.ctx.Err() != nil {
				return
			}
			c.logger.Error("dead-letter message: trying again", "position", d.Position, "error", err)
			select {
			case <-time.After(pause):
			case <-d.partition.ctx.Done():
				return
			}
		}
	})
}

func (c *consumer) send(d *delivery, letter dedup.Output) error {
	c.mu.Lock()
	t := c.transactor
	c.mu.Unlock()
	if t != nil {
		return t.publish(c.ctx, &item{deliveries: []*delivery{d}, done: make(chan struct{})}, []dedup.Output{letter})
	}
	if err := c.sendPlain(d, letter); err != nil {
		return err
	}
	d.settle()
	return nil
}

// sendPlain publishes a letter, and gives up when the partition is lost, which it is at
// the latest when the consumer closes: while Kafka is away, publishing has no end. The
// letter may still arrive then, but the message's offset is uncommitted, and its next
// owner sends one again.
func (c *consumer) sendPlain(d *delivery, letter dedup.Output) error {
	published := make(chan error, 1)
	go func() { published <- (&publisher{broker: c.broker}).Publish(letter.Topic, letter.Message) }()
	select {
	case err := <-published:
		return err
	case <-d.partition.ctx.Done():
		return errRevoked
	}
}
