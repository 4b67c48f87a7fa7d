package sqlite

// Freeze stops a broker's heartbeats, as a long pause of its process would: those
// of its consumers and those of its claims.
func Freeze(b *Broker) {
	b.frozen.Store(true)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, leases := range b.leases {
		_ = leases.Close()
	}
}

// Abandon makes a broker write nothing any more, as if its process were killed.
func Abandon(b *Broker) { _ = b.group.Close() }
