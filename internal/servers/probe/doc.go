// Package probe asks a server, in its own protocol, whether it serves and which
// version it is. An open port proves nothing: Kafka accepts connections long
// before it has a controller, and PostgreSQL while it still recovers. Each probe
// is one attempt, bounded by its context; the caller repeats it.
package probe
