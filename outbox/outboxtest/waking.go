package outboxtest

import (
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/relay"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

var waking = []check{
	{"WakeIsHeardAtOnce", func(b *bench) {
		r, _ := b.relay(func(c *relay.Config) { c.PollInterval = time.Hour })
		b.until("it works", func() bool { return r.Stats().Shards == outbox.Shards })
		for i := range 10 {
			// The commit is heard of nowhere else: not on PostgreSQL either,
			// where notifications are the publisher's.
			b.write(true, "orders", event(fmt.Sprint(i), fmt.Sprint(i)))
			r.Wake()
			b.until("it is published", func() bool { return len(b.Broker.IDs()) == i+1 })
		}
	}},

	// The time from a commit until the message is published, in a relay that has
	// nothing else to do. A measurement, so what it asks for is far from what it
	// finds: half of them well under the poll interval of a listening relay.
	{"AnIdleRelayIsQuick", func(b *bench) {
		b.relay()
		b.until("relay lives", func() bool { return b.status().Owned == outbox.Shards })
		if b.Outbox.Dialect == sqldb.Postgres {
			b.until("it listens", b.listening)
		}
		var took []time.Duration
		for i := range 50 {
			b.write(true, "orders", event(fmt.Sprint(i), fmt.Sprint(i)))
			committed := time.Now()
			for len(b.Broker.All()) <= i {
				require.Less(b, time.Since(committed), patience)
				time.Sleep(200 * time.Microsecond) // the resolution of the measurement
			}
			took = append(took, time.Since(committed))
		}
		slices.Sort(took)
		b.Logf("commit to publish: median %s, worst of 50 %s", took[25], took[49])
		require.Less(b, took[25], 100*time.Millisecond)
	}},
}

// listening reports whether a relay hears notifications.
func (b *bench) listening() (found bool) {
	err := b.DB.QueryRow("SELECT listening FROM " + b.Outbox.Dialect.Quote(b.Outbox.Table.With("_relays"))).Scan(&found)
	return err != sql.ErrNoRows && found
}
