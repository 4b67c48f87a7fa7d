package outboxtest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/outbox/relay"
)

var keeping = []check{
	{"PublishedRowsLeaveAtOnce", func(b *bench) {
		b.write(true, "orders", event("a", "k"), event("b", ""))
		b.relay()
		b.expect("a", "b")
		require.Zero(b, b.count("1 = 1"))
	}},

	{"PublishedRowsAreKeptForAWhile", func(b *bench) {
		b.write(true, "orders", event("a", "k"), event("b", ""))
		_, stop := b.relay(func(c *relay.Config) { c.Retention = time.Hour })
		b.expect("a", "b")
		stop()
		require.Equal(b, 2, b.count("state = 1 AND settled_at IS NOT NULL"))
		_, stop = b.relay(func(c *relay.Config) { c.Retention = 50 * time.Millisecond })
		b.until("they are removed", func() bool { return b.count("1 = 1") == 0 })
		stop()
		require.Len(b, b.Broker.All(), 2, "they were not published again")
	}},
}
