package redis

// Freeze stops heartbeats, as a long pause of the process would, and leaving.
func (b *Broker) Freeze() { b.frozen.Store(true) }

// GroupIsGone tells the errors after which a group is made anew.
var GroupIsGone = groupIsGone
