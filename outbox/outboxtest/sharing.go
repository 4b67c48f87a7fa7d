package outboxtest

import (
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/relay"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

var sharing = []check{
	{"RelaysShareTheShards", func(b *bench) {
		first, stopFirst := b.relay()
		b.until("the first has all", func() bool { return first.Stats().Shards == outbox.Shards })
		second, stopSecond := b.relay()
		third, _ := b.relay()
		b.until("each has its share", func() bool {
			a, b, c := first.Stats().Shards, second.Stats().Shards, third.Stats().Shards
			return max(a, b, c) == 11 && a+b+c == outbox.Shards
		})
		require.Equal(b, 3, b.status().Relays)
		stopFirst()
		stopSecond()
		b.until("the last has all", func() bool { return third.Stats().Shards == outbox.Shards })
		require.Equal(b, 1, b.status().Relays)
	}},

	{"NothingIsPublishedTwiceByRelaysThatLive", func(b *bench) {
		const n = 1000
		var messages []*message.Message
		for i := range n {
			messages = append(messages, event(fmt.Sprint(i), fmt.Sprint(i%97)))
		}
		// Nobody is late within such a lease.
		for range 3 {
			b.relay(small, func(c *relay.Config) { c.Lease = 20 * time.Second })
		}
		b.write(true, "orders", messages...)
		b.settled()
		require.Len(b, b.Broker.IDs(), n)
		require.Len(b, b.Broker.All(), n)
	}},

	// A relay that was cut off for longer than its lease, in the middle of
	// publishing, goes on as if nothing had happened: what it then does must neither
	// lose nor disorder anything.
	{"ALateOwnerDoesNoHarm", func(b *bench) {
		db, _, err := sqldb.Open(b.Context(), b.DSN)
		require.NoError(b, err)
		gate := newGate(b)
		late, stopLate := b.relay(oneWorker, func(c *relay.Config) { c.DB, c.Publisher, c.Lease = db, gate, 500*time.Millisecond })
		b.Cleanup(gate.pass)
		b.until("it has all", func() bool { return late.Stats().Shards == outbox.Shards })
		for i := range 10 {
			b.write(true, "orders", event(fmt.Sprint(i), "k"))
		}
		<-gate.reached // it has claimed the first rows, and stands still
		require.NoError(b, db.Close())
		b.relay()
		b.until("the other one publishes all", func() bool { return len(b.Broker.IDs()) == 10 })
		b.write(true, "orders", event("10", "k"))
		b.until("and goes on", func() bool { return len(b.Broker.IDs()) == 11 })
		gate.pass()
		b.until("the late one publishes its rows too", func() bool { return len(b.Broker.All()) > 11 })
		stopLate()
		b.settled()
		require.Equal(b, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}, b.Broker.IDsOf("k"))
	}},

	{"StoppingFinishesWhatWasBegun", func(b *bench) {
		gate := newGate(b)
		_, stop := b.relay(oneWorker, func(c *relay.Config) { c.Publisher = gate })
		b.Cleanup(gate.pass)
		b.write(true, "orders", event("a", "k"), event("b", "k"))
		<-gate.reached
		stopped := make(chan struct{})
		go func() { defer close(stopped); stop() }()
		gate.pass()
		<-stopped
		require.Len(b, b.Broker.All(), 2)
		require.Zero(b, b.count("state = 0"))
		require.Zero(b, b.status().Relays)
		require.Zero(b, b.status().Owned)
	}},
}

// gate holds Publish up until it is passed.
type gate struct {
	*Broker
	reached chan struct{}
	open    chan struct{}
	pass    func()
}

func newGate(b *bench) *gate {
	g := &gate{Broker: b.Broker, reached: make(chan struct{}, 64), open: make(chan struct{})}
	g.pass = sync.OnceFunc(func() { close(g.open) })
	return g
}

// Publish implements message.Publisher.
func (g *gate) Publish(topic string, messages ...*message.Message) error {
	select {
	case g.reached <- struct{}{}:
	default:
	}
	<-g.open
	return g.Broker.Publish(topic, messages...)
}
