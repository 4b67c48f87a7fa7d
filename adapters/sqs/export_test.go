package sqs

// Freeze stops heartbeats, and giving back, as a long pause of the process would.
func (b *Broker) Freeze() { b.frozen.Store(true) }

// Abandon stops everything as the end of the process would: nothing is given back.
// Its subscriptions must not wait for their handlers.
func (b *Broker) Abandon() {
	b.Freeze()
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subscribers {
		for _, c := range s.consumers.All() {
			c.stop()
		}
	}
}
