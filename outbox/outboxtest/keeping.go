package outboxtest

import (
	"errors"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/outbox"
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

	// What was away and is back is no trouble any more, though there is nothing to
	// publish: neither for the heartbeats nor for those who look for rows.
	{"AnIdleRelayRecovers", func(b *bench) {
		r, _ := b.relay()
		healthy := func() bool { return r.Healthy() == nil }
		b.until("it works", func() bool { return r.Stats().Shards == outbox.Shards && healthy() })
		for table, column := range map[string]string{"_relays": "expires_at", "": "attempts"} {
			back := b.hide(table, column)
			b.until("it tells", func() bool { r.Wake(); return !healthy() })
			back()
			b.until("it has recovered", healthy)
		}
	}},

	// The other workers and the heartbeats go on; that does not tell of the one.
	{"TroubleOfOneWorkerIsTold", func(b *bench) {
		b.Broker.SetDown(true)
		b.write(true, "orders", event("a", "k"))
		r, _ := b.relay()
		b.until("it tells", func() bool { return errors.Is(r.Healthy(), errDown) })
		for calls := b.Broker.Calls(); b.Broker.Calls() < calls+10; time.Sleep(time.Millisecond) {
			r.Wake()
			require.ErrorIs(b, r.Healthy(), errDown)
		}
		b.Broker.SetDown(false)
		b.expect("a")
		b.until("it has recovered", func() bool { return r.Healthy() == nil })
	}},
}

// hide takes a column of a table of the outbox away, which nobody can do without, until
// back is called.
func (b *bench) hide(table, column string) (back func()) {
	b.Helper()
	rename := func(from, to string) {
		b.Helper()
		_, err := b.DB.Exec("ALTER TABLE " + b.Outbox.Dialect.Quote(b.Outbox.Table.With(table)) + " RENAME COLUMN " + from + " TO " + to)
		require.NoError(b, err)
	}
	rename(column, "hidden")
	return func() { rename("hidden", column) }
}
