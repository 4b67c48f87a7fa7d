package rabbitmq

// Abandon ends the connections as the death of the process would.
func (b *Broker) Abandon() {
	b.consuming.cut()
	b.publishing.cut()
}

// Cut ends the connections, and lets the broker make new ones.
func (b *Broker) Cut() {
	for _, link := range []*link{b.consuming, b.publishing} {
		link.mu.Lock()
		if link.socket != nil {
			_ = link.socket.Close()
		}
		link.mu.Unlock()
	}
}
