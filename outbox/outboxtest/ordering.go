package outboxtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox"
)

var ordering = []check{
	// What loses rows in relays that remember how far they have read: the row
	// with the lower id becomes visible after the other one was published.
	{"Row1CommitsAfterRow2", func(b *bench) {
		if b.OneWriter {
			b.Log("this database has one writer: a second transaction waits until the first has ended, so row 2 cannot commit before row 1")
			return
		}
		b.relay()
		first, err := b.DB.BeginTx(b.Context(), nil)
		require.NoError(b, err)
		b.publish(first, "orders", event("1", "k"))
		b.write(true, "orders", event("2", "k"))
		b.expect("2")
		require.NoError(b, first.Commit())
		b.expect("1", "2")
		require.Equal(b, []string{"2", "1"}, b.Broker.IDs(), "neither had seen the other")
	}},

	{"KeysKeepTheirOrder", func(b *bench) {
		b.relay(small)
		b.relay(small)
		const writers, each = 8, 60
		var all sync.WaitGroup
		var want []string
		for w := range writers {
			key := fmt.Sprintf("key-%d", w)
			for i := range each {
				want = append(want, fmt.Sprintf("%s-%03d", key, i))
			}
			all.Go(func() {
				random := rand.New(rand.NewPCG(1, uint64(w)))
				for i := 0; i < each; {
					var messages []*message.Message
					for range min(1+random.IntN(4), each-i) {
						messages = append(messages, event(fmt.Sprintf("%s-%03d", key, i), key))
						i++
					}
					if random.IntN(5) == 0 {
						b.write(false, "orders", event(fmt.Sprintf("%s-undone-%d", key, i), key))
					}
					b.write(true, "orders", messages...)
				}
			})
		}
		all.Wait()
		b.expect(want...)
		for w := range writers {
			key := fmt.Sprintf("key-%d", w)
			require.Equal(b, want[w*each:(w+1)*each], b.Broker.IDsOf(key))
		}
	}},

	// A full round takes the first shards only; the others must have their turn.
	{"NoShardStarves", func(b *bench) {
		var messages []*message.Message
		for i := range 300 {
			messages = append(messages, event(fmt.Sprintf("busy-%03d", i), "busy"))
		}
		b.write(true, "orders", messages...)
		messages = nil
		for i := range 64 {
			messages = append(messages, event(fmt.Sprintf("rare-%02d", i), fmt.Sprintf("key-%d", i)))
		}
		b.write(true, "orders", messages...)
		neighbours := b.shardOf("busy-000") // they do stand behind it
		owned := make(chan struct{})        // shards that it comes to own later wait without being starved
		b.Broker.Refuse(func(string, *message.Message) error { <-owned; return nil })
		r, stop := b.relay(small, oneWorker)
		b.until("it has all shards", func() bool { return r.Stats().Shards == outbox.Shards })
		close(owned)
		b.settled()
		stop()
		ids := b.Broker.IDs()
		require.Len(b, ids, 364)
		last := map[string]int{}
		for i, id := range ids {
			if !neighbours[id] {
				last[id[:4]] = i
			}
		}
		require.Less(b, last["rare"], slices.Index(ids, "busy-299"), "64 other keys waited for 300 rows of one")
	}},

	{"CopiesComeWithTheSameID", func(b *bench) {
		b.write(true, "orders", event("a", "k"), event("b", "k"), &message.Message{})
		b.Broker.Refuse(func(topic string, msg *message.Message) error {
			if msg.UUID == "b" {
				return fmt.Errorf("not yet") // "a" was taken, and comes again
			}
			return nil
		})
		b.relay(oneWorker)
		b.until("a was published", func() bool { return slices.Contains(b.Broker.IDs(), "a") })
		b.Broker.Refuse(nil)
		b.settled()
		require.Len(b, b.Broker.IDs(), 3)
		require.Equal(b, []string{"a", "b"}, b.Broker.IDsOf("k"))
		var told []bool // that it may be a copy
		for _, sent := range b.Broker.All() {
			if sent.Message.UUID == "a" {
				told = append(told, sent.Message.Metadata.Get(dedup.MetaRelayAttempt) != "")
			}
		}
		require.Greater(b, len(told), 1)
		require.Equal(b, []bool{false, true}, told[:2])
	}},

	{"BacklogIsTold", func(b *bench) {
		b.write(true, "orders", event("a", "k"), event("b", "k"))
		b.until("it grows old", func() bool { return b.status().Oldest > 20*time.Millisecond })
		status := b.status()
		require.EqualValues(b, 2, status.Waiting)
		require.Less(b, status.Oldest, patience, "an age that takes the time zone for time")
		b.relay()
		b.settled()
		require.Zero(b, b.status().Oldest)
	}},
}

// shardOf returns the UUIDs of all rows in the shard of one.
func (b *bench) shardOf(uuid string) map[string]bool {
	b.Helper()
	table := b.Outbox.Dialect.Quote(b.Outbox.Table)
	rows, err := b.DB.Query("SELECT uuid FROM " + table + " WHERE shard = (SELECT shard FROM " + table + " WHERE uuid = '" + uuid + "')")
	require.NoError(b, err)
	defer rows.Close()
	found := map[string]bool{}
	for rows.Next() {
		var uuid string
		require.NoError(b, rows.Scan(&uuid))
		found[uuid] = true
	}
	require.NoError(b, rows.Err())
	return found
}
