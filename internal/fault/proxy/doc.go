// Package proxy puts a bad network between a client and a server on this
// machine: connections that die, answers that never arrive, latency, a server
// that is gone.
//
// It is toxiproxy, in this process and without its HTTP interface, plus one toxic
// of our own. Toxiproxy's toxics are drawn once for a connection and from the
// clock; ours draws from a seed, for each connection and each answer.
//
//	client ──► latency ──► server
//	client ◄── cut, drop, delay ◄── server
//
// A proxy knows no protocol. What it drops is a chunk: what one read returned,
// which on loopback is nearly always what the server wrote at once, an answer or
// several. After a dropped chunk the connection is useless (the client would
// misread all that follows), so everything after it is dropped as well and the
// connection is closed a little later. The client then sees what it sees of a
// server that dies between doing and answering: an unknown outcome.
package proxy
