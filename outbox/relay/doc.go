// Package relay brings the rows of an outbox to a broker.
//
// # A row's life
//
//	            published ──► deleted, or kept for Config.Retention
//	               ▲
//	committed ──► waits ◄──────────── retry (by hand) ──────────┐
//	               │  ▲                                         │
//	      it fails │  │ after a pause                           │
//	               ▼  │                                         │
//	              held, with its key ──► Config.MaxAttempts ──► parked
//
// A relay never remembers how far it has read, because the order of ids is not
// that of commits. It asks for rows whose state says that they wait.
//
// # Several relays
//
// Keys fall into outbox.Shards shards. A shard has one owner at a time, which
// holds a lease in the table beside the outbox and renews it; relays take as many
// shards as is fair, and give some back when another relay comes. So two relays
// do not work on one key, except when one of them was stopped for longer than its
// lease and does not know it yet. Then both publish the same rows from the same
// start, in the same order: consumers see copies with the same event ID, and the
// first copies are in order. What the late one writes about failed rows is refused
// by the lease's token.
//
// # Killed here, what happens?
//
//	after it claimed rows         nothing was written; the next owner reads them again
//	in the middle of publishing   some are published; all are published again
//	after publishing              all are published again
//	after they were settled       nothing is left to do
//
// What is published again carries the same event ID, so that a consumer's ledger
// absorbs it. No row is lost, since it leaves its state only after the broker has
// confirmed it.
//
// # Rows that cannot be published
//
// When a batch fails and the broker is alive, halves of it are tried, then halves
// of those, until the rows at fault stand alone. Such a row is held together with
// the later ones of its key and tried again after a pause, ever longer; the other
// keys go on. After Config.MaxAttempts it is parked with the reason, and its key
// goes on without it. A row that was parked and is retried by hand therefore comes
// after later ones of its key: whoever retries it decides that this does no harm,
// and discards it otherwise.
//
// A topic of which rows were refused is left alone for as long as that took, and one of
// which many fail one after the other for the rest of its batch as well, so that a
// topic that the broker does not take holds up no other one. A worker holds some
// hundred keys at most. When a row of one more fails, those that are held go first,
// until they are through or parked, and the topic waits in between, ever longer.
//
// When the broker is away nothing is at fault, and the relay waits for it.
//
// # Waking up
//
// A row is seen at once when the writer calls Relay.Wake after its commit, or on
// PostgreSQL, whose NOTIFY the publisher sends and the relay listens to. Under
// load nobody listens, since commits that notify wait for each other. Elsewhere a
// cheap question is asked every Config.PollInterval.
package relay
