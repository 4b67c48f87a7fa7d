package outboxtest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/relay"
)

func small(c *relay.Config)     { c.Batch = 16 }
func oneWorker(c *relay.Config) { c.Workers = 1 }

// refusing refuses messages whose UUID begins with "bad".
func refusing(err error) func(string, *message.Message) error {
	return func(_ string, msg *message.Message) error {
		if strings.HasPrefix(msg.UUID, "bad") {
			return err
		}
		return nil
	}
}

var errNotTaken = errors.New("the broker's own words: Nö")

var parking = []check{
	{"PoisonIsParkedAndBlocksNobody", func(b *bench) {
		var ids []string
		var messages []*message.Message
		for i := range 40 {
			ids = append(ids, fmt.Sprintf("good-%02d", i))
			messages = append(messages, event(ids[i], fmt.Sprintf("key-%d", i%10)))
		}
		messages = append(messages[:20], append([]*message.Message{event("bad", "poisoned"), event("bad keyless", "")}, messages[20:]...)...)
		messages = append(messages, event("after", "poisoned"))
		b.Broker.Refuse(refusing(errNotTaken))
		b.write(true, "orders", messages...)
		r, _ := b.relay(func(c *relay.Config) { c.MaxAttempts = 3 })
		b.expect(append(ids, "after")...)
		b.until("both are parked", func() bool { return r.Stats().Parked == 2 })
		parked, err := b.table().Parked(b.Context(), 10)
		require.NoError(b, err)
		require.Len(b, parked, 2)
		for _, row := range parked {
			require.Equal(b, 3, row.Attempts)
			require.Contains(b, row.Reason, errNotTaken.Error())
			require.Equal(b, "orders", row.Topic)
			require.Contains(b, []string{"bad", "bad keyless"}, row.EventID)
		}
		require.EqualValues(b, 2, b.status().Parked)
		require.NoError(b, r.Healthy())
	}},

	// More bad rows than a worker holds keys: those that are held must be counted and
	// parked, or there is no room for the others, ever.
	{"MoreBadRowsThanAreHeldAtOnce", func(b *bench) {
		const n = 200
		var ids []string
		var messages []*message.Message
		for i := range n {
			bad, good := fmt.Sprintf("bad-%03d", i), fmt.Sprintf("good-%03d", i)
			ids = append(ids, good)
			messages = append(messages, event(bad, bad), event(good, good))
		}
		b.Broker.Refuse(refusing(errNotTaken))
		b.write(true, "orders", messages...)
		// In one shard they stand as they were written: the good ones in between keep
		// a round going until no more keys can be held.
		b.change("shard = 0")
		r, _ := b.relay(oneWorker, func(c *relay.Config) { c.MaxAttempts = 3 })
		b.until("all bad ones are parked", func() bool { return r.Stats().Parked == n })
		b.expect(ids...)
		require.Equal(b, n, b.count("state = 2 AND attempts = 3"))
	}},

	// The broker lives and takes nothing of one topic, of which more rows wait than a
	// batch holds: those of other topics, before and behind them, go on.
	{"ARefusedTopicHoldsUpNoOther", func(b *bench) {
		b.Broker.Refuse(func(topic string, _ *message.Message) error {
			if topic == "refused" {
				return errNotTaken
			}
			return nil
		})
		var refused, taken []*message.Message
		var ids []string
		for i := range 1500 {
			refused = append(refused, event(fmt.Sprintf("refused-%04d", i), fmt.Sprint(i)))
		}
		for i := range 300 {
			ids = append(ids, fmt.Sprintf("taken-%03d", i))
			taken = append(taken, event(ids[i], fmt.Sprintf("taken-%d", i%50)))
		}
		b.write(true, "orders", taken[:100]...)
		b.write(true, "refused", refused...)
		b.write(true, "orders", taken[100:200]...)
		r, _ := b.relay(oneWorker, func(c *relay.Config) { c.MaxAttempts = 1 << 30 })
		published := func(n int) func() bool { return func() bool { return len(b.Broker.IDs()) == n } }
		b.until("the other topic goes on", published(200))
		for i := 200; i < 300; i++ {
			b.write(true, "orders", taken[i])
			b.until("the other topic goes on, again and again", published(i+1))
		}
		require.ElementsMatch(b, ids, b.Broker.IDs())
		require.Zero(b, b.count("state <> 0"))
		require.NoError(b, r.Healthy())
		b.Broker.Refuse(nil)
		b.settled()
		require.Len(b, b.Broker.IDs(), 1800)
	}},

	// Until it is parked, later rows of its key wait; those of others do not.
	{"LaterRowsOfTheKeyWaitUntilItIsParked", func(b *bench) {
		b.Broker.Refuse(refusing(errNotTaken))
		b.write(true, "orders", event("bad", "k"), event("later", "k"), event("other", "o"))
		b.relay(func(c *relay.Config) { c.MaxAttempts = 1 << 30 })
		b.until("the other key goes on", func() bool { return len(b.Broker.IDs()) == 1 })
		calls := b.Broker.Calls()
		b.until("it is tried again and again", func() bool { return b.Broker.Calls() > calls+5 })
		require.Equal(b, []string{"other"}, b.Broker.IDs())
		// More of a key than a round takes: the others must be found behind it.
		var messages []*message.Message
		for i := range 600 {
			messages = append(messages, event(fmt.Sprintf("later-%03d", i), "k"))
		}
		b.write(true, "orders", append(messages, event("behind", "k2"))...)
		b.until("the other key goes on", func() bool { return len(b.Broker.IDs()) == 2 })
		b.Broker.Refuse(nil)
		b.settled()
		ids := b.Broker.IDsOf("k")
		require.Len(b, ids, 602)
		require.Equal(b, []string{"bad", "later", "later-000"}, ids[:3])
		require.IsIncreasing(b, ids[2:])
	}},

	{"WhatCanNeverBePublishedIsParkedAtOnce", func(b *bench) {
		b.Broker.Refuse(refusing(fmt.Errorf("too large: %w", dedup.ErrBadOutput)))
		b.write(true, "orders", event("good", "k"), event("bad", "k"), event("also good", "k"))
		r, _ := b.relay()
		b.expect("good", "also good")
		require.EqualValues(b, 1, r.Stats().Failed)
	}},

	{"RetryAndDiscard", func(b *bench) {
		b.Broker.Refuse(refusing(dedup.ErrBadOutput))
		b.write(true, "orders", event("bad 1", "k"), event("bad 2", ""), event("bad 3", ""))
		r, _ := b.relay()
		b.until("all are parked", func() bool { return b.status().Parked == 3 })
		parked, err := b.table().Parked(b.Context(), 10)
		require.NoError(b, err)
		discarded, err := b.table().Discard(b.Context())
		require.NoError(b, err)
		require.Zero(b, discarded, "nothing was named")
		for _, row := range parked {
			if row.EventID == "bad 3" {
				discarded, err = b.table().Discard(b.Context(), row.ID)
				require.NoError(b, err)
				require.Equal(b, 1, discarded)
			}
		}
		b.Broker.Refuse(nil)
		retried, err := b.table().Retry(b.Context())
		require.NoError(b, err)
		require.Equal(b, 2, retried)
		r.Wake()
		b.expect("bad 1", "bad 2")
		require.Zero(b, b.status().Parked)
	}},

	{"AnOutageParksNothing", func(b *bench) {
		b.Broker.SetDown(true)
		for i := range 20 {
			b.write(true, "orders", event(fmt.Sprint(i), fmt.Sprint(i)))
		}
		r, _ := b.relay(func(c *relay.Config) { c.MaxAttempts = 1 })
		b.until("it is tried", func() bool { return b.Broker.Calls() > 10 })
		require.ErrorIs(b, r.Healthy(), errDown)
		b.Broker.SetDown(false)
		b.settled()
		require.Len(b, b.Broker.IDs(), 20)
		require.Zero(b, b.count("attempts > 0"))
		require.Zero(b, r.Stats().Failed)
		b.until("every worker has got on", func() bool { return r.Healthy() == nil })
	}},

	// Nobody can be asked whether the broker is up: others getting through tells.
	{"WithoutAPingOthersTell", func(b *bench) {
		noPing := func(c *relay.Config) { c.Ping, c.MaxAttempts = nil, 2 }
		b.Broker.SetDown(true)
		b.write(true, "orders", event("bad", "k"))
		r, _ := b.relay(noPing, oneWorker)
		b.until("it is tried", func() bool { return b.Broker.Calls() > 5 })
		require.Zero(b, r.Stats().Failed)
		b.Broker.Refuse(refusing(errNotTaken))
		b.Broker.SetDown(false)
		for i := range 50 {
			b.write(true, "orders", event(fmt.Sprint(i), ""))
			if r.Stats().Parked > 0 {
				break
			}
			b.until("the other one is published", func() bool { return len(b.Broker.IDs()) > i })
		}
		b.until("it is parked", func() bool { return r.Stats().Parked == 1 })
	}},

	{"ARowThatIsNoMessageIsParked", func(b *bench) {
		b.write(true, "orders", event("good", "k"), event("broken", "k"))
		b.change("metadata = 'no JSON' WHERE uuid = 'broken'")
		b.relay()
		b.expect("good")
		require.EqualValues(b, 1, b.status().Parked)
	}},
}
