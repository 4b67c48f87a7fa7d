package sqlite

// Freeze stops a broker's heartbeats, as a long pause of its process would.
func Freeze(b *Broker) { b.frozen.Store(true) }

// Abandon makes a broker write nothing any more, as if its process were killed.
func Abandon(b *Broker) { _ = b.group.Close() }
