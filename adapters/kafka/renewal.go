package kafka

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A topic that is deleted and made anew has another ID. franz-go never takes that up
// by itself: whoever holds the old ID gets UNKNOWN_TOPIC_ID until the topic is
// purged from the client, or the client is replaced.

// replaced reports an error that says so, or that the topic is missing.
func replaced(err error) bool {
	return errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.UnknownTopicOrPartition)
}

// renewals count how often topics, by their Kafka names, were purged from the
// shared client.
type renewals struct {
	mu     sync.Mutex
	counts map[string]int
}

func (b *Broker) renewed(topic string) int {
	b.renewals.mu.Lock()
	defer b.renewals.mu.Unlock()
	return b.renewals.counts[topic]
}

// renew makes a client look a topic up anew, unless it is the shared one and another caller
// has done so since the count was seen: purging fails what is buffered, and by now that may
// be the records of those who went on with the new topic.
func (b *Broker) renew(client producer, topic string, seen int) {
	b.renewals.mu.Lock()
	defer b.renewals.mu.Unlock()
	if client == b.client && b.renewals.counts[topic] != seen {
		return
	}
	b.topics.Delete(topic)
	client.PurgeTopicsFromClient(topic)
	if client == b.client {
		b.renewals.counts[topic]++
	}
}

// producer is the shared client, or a loner.
type producer interface {
	ProduceSync(ctx context.Context, records ...*kgo.Record) kgo.ProduceResults
	PurgeTopicsFromClient(topics ...string)
}

// renewPause is between two tries, because brokers learn of a topic one after the
// other.
const renewPause = 50 * time.Millisecond

// produceWith publishes records of one topic with a client, outside of transactions. What
// fails because the topic is another one now is sent again, in its order.
func (b *Broker) produceWith(ctx context.Context, client producer, topic string, records []*kgo.Record) error {
	for try := 1; ; try++ {
		seen := b.renewed(topic)
		if _, err := b.ready(ctx, topic); err != nil {
			return err
		}
		failed := map[*kgo.Record]bool{}
		var failure error
		for _, result := range client.ProduceSync(ctx, records...) {
			if result.Err != nil {
				failed[result.Record] = true
				failure = result.Err
				purged := client == b.client && b.renewed(topic) != seen // by another caller
				if !replaced(result.Err) && !purged {
					return result.Err
				}
			}
		}
		if failure == nil || try == 5 {
			return failure
		}
		b.renew(client, topic, seen)
		var again []*kgo.Record
		for _, r := range records {
			if failed[r] {
				again = append(again, unsent(r))
			}
		}
		records = again
		time.Sleep(time.Duration(try-1) * renewPause)
	}
}

// unsent is a copy of a record that the client has written into.
func unsent(r *kgo.Record) *kgo.Record {
	return &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers}
}

// rejoin makes the consumer a new member of the group if its topic is another one
// than it knows. The partitions are given up first: the offsets of the old topic's
// messages say nothing about the new one. It waits while the topic is missing, and
// reports whether the consumer goes on.
func (c *consumer) rejoin() bool {
	for told := ""; ; {
		anew, err := c.refresh()
		if err == nil {
			if !anew {
				return true
			}
			c.logger.Warn("the topic was deleted and made anew: consuming the new one from its start")
			return c.reenter()
		}
		if told != err.Error() && c.polling.Err() == nil {
			told = err.Error()
			c.logger.Error("the topic was deleted, or was made anew and cannot be consumed: looking again until it can", "error", err)
		}
		select {
		case <-time.After(5 * renewPause):
		case <-c.polling.Done():
			return false
		}
	}
}

// refresh looks whether the topic is another one now, and makes sure of its log of
// processed IDs.
func (c *consumer) refresh() (anew bool, err error) {
	b := c.broker
	detail, err := b.describe(c.polling, c.name)
	if err == nil && detail.ID == c.topicID {
		return false, nil
	}
	b.topics.Delete(c.name)
	if _, err := b.ready(c.polling, c.name); err != nil {
		return false, err
	}
	if detail, err = b.describe(c.polling, c.name); err != nil {
		return false, err
	}
	c.mu.Lock()
	t := c.transactor
	c.mu.Unlock()
	if t != nil {
		if err := b.readyIDLog(c.polling, c.idLog, c.name, t.window); err != nil {
			return false, err
		}
	}
	c.topicID = detail.ID
	return true, nil
}

// fenced reports whether the consumer holds partitions that were assigned to it as
// another member. A consumer that was silent for too long, and learns so from the
// refusal to join, gets a new member ID. franz-go does not call its partitions lost
// then, and goes on where it was if it is given the same ones again; but in between
// they may have been another's, whose offsets and processed IDs are not known here.
func (c *consumer) fenced(client *membership) bool {
	member, _ := client.GroupMetadata()
	return slices.ContainsFunc(c.owned(), func(p *partition) bool {
		// Without a member ID the group may yet call them lost, unless a
		// transaction has found out first.
		return p.member != member && (member != "" || p.isGone())
	})
}

// giveUp gives the partitions of an item up, whose messages nobody here hands out again,
// and makes poll begin anew in the group: their next owner gets the messages.
func (c *consumer) giveUp(it *item) {
	for _, d := range it.deliveries {
		d.partition.lose(errRevoked)
	}
	c.logger.Warn("an output that was sent already is refused: beginning anew in the group, so that its event is handled again", "error", *it.failure.Load())
	c.anew.Store(true)
	c.wake()
}

// wake makes poll look whether the consumer is fenced, or is to begin anew.
func (c *consumer) wake() {
	if wake := c.woken.Load(); wake != nil {
		(*wake)()
	}
}

// reenter replaces the member, and reports whether the consumer goes on.
func (c *consumer) reenter() bool {
	for {
		err := c.replaceMember()
		if err == nil {
			return true
		}
		if c.polling.Err() == nil {
			c.logger.Error("begin anew in the group: trying again", "error", err)
		}
		select {
		case <-time.After(5 * renewPause):
		case <-c.polling.Done():
			return false
		}
	}
}

// replaceMember leaves the group and joins it again with a client that knows nothing.
func (c *consumer) replaceMember() error {
	partitions := c.owned()
	for _, p := range partitions {
		p.lose(errRevoked)
	}
	c.forget(partitions)
	// Closed before there is another: it may still call partitions lost.
	c.leaveGroup(c.client.Load())
	if err := c.polling.Err(); err != nil {
		return err // closing has begun meanwhile: it would only have to leave again
	}
	return c.join()
}
