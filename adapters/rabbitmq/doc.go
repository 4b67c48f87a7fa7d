// Package rabbitmq is the RabbitMQ broker: many deliveries in flight, in order per
// key, on quorum queues; publishes that are confirmed and known to have found a
// queue. It speaks the official watermill-amqp's wire format and keeps its durable
// Pub/Sub topology, so that both read each other's messages.
//
// It promises:
//
//   - Publish returns without an error only when every queue bound to the topic's
//     exchange has stored every message;
//   - a group gets every message published since its queue exists, at least once;
//   - equal keys are handed out one at a time and in order within a consumer, and
//     within the group with Config.SingleActiveConsumer, where one member works, or
//     Config.Partitions, where all do;
//   - the event ID is the AMQP message-id property, and is read from there when a
//     message has no other.
//
// That an event takes effect once is the work of the strategy message-id: a ledger
// beside the broker. RabbitMQ has nothing that could mark an event together with
// its acknowledgement, so this package has no strategy of its own.
//
// # Topology
//
//	topic "orders"            durable fanout exchange "orders"
//	group "svc.orders" of it  durable queue "orders_svc.orders", bound to it
//	its dead letters          exchange "orders.dead", and a queue "orders.dead",
//	                          or as Subscription.DeadLetter says
//
// Underscores and percent signs in a topic are percent-encoded in the queue's name,
// so that no two pairs of topic and group share one. The queue of the letters is
// declared when nobody had declared their exchange before; delete it when a group
// of yours reads the letters, or it keeps a copy of each.
//
// A queue that exists is used as it is, and Check names what differs, unless it promises
// less than is asked for: with another type, with limits that drop messages, or without
// a single active consumer where order across members needs one, it is refused.
//
// A topic without any queue refuses messages: ErrUnroutable. RabbitMQ has no topic
// that keeps messages for later readers, and what it cannot route it drops, after
// confirming it. Only dead letters make themselves a queue. So start consumers
// before producers the first time, or declare the queues with SubscribeInitialize.
//
// # Headers
//
// Metadata is written as headers, and headers of other programs are read as metadata,
// whatever their type, as text; those without a value (null) are not there. Two are left
// out both ways: CC and BCC, in which RabbitMQ looks for further routing keys
// (sender-selected distribution), and which it refuses as text.
//
// # Partitions
//
// With Config.Partitions a group has so many queues instead of one. The key decides
// which: publishes carry its hash, one of 256 slots, as their routing key, and the
// group's own exchange, behind the topic's, deals them out:
//
//	exchange "orders" ──► exchange "orders%partitions_svc.orders" ──► queue "orders%partition-0_svc.orders"
//	     (fanout)            (direct, or x-consistent-hash)       ──► queue "orders%partition-1_svc.orders" …
//
// Members share the partitions out among themselves and move them when members come
// and go, within some seconds. The server's single active consumer sees to it that
// a partition has one of them at a time even when they disagree. They count each other by
// the consumers of queues that stay empty, "orders%members_svc.orders" and others. A member that
// leaves, or gives a partition up, finishes first what it holds, up to DrainTimeout.
// The number of partitions cannot be changed while the queues exist: a member with
// another is refused. A queue from before there were partitions stays bound, and
// fills up: let its consumers empty it, then delete it. Check and the log name it.
//
// # Delays
//
// A nacked message waits for its next attempt in the consumer, in its lane. One
// without a key whose delay is Config.ParkAfter or more waits on the server: in a
// queue "orders%delay-30s_svc.orders" without consumers, whose messages expire, and
// are dead-lettered back where they came from, at least once. There is a queue for
// each of 18 delays from a second to a day, made when first needed; what must wait
// longer passes through several times. A delay is never cut short, and rounded up to
// the next queue's. Messages with a key are parked only when they would otherwise be
// held for more than half of the consumer timeout, because others of the key then
// overtake them.
//
// # Acknowledging
//
// A session is one channel. A delivery tag means something on its channel only, so
// a delivery holds on to its session; when the connection is lost the contexts of
// its messages end, and what handlers say afterwards goes nowhere:
//
//	         deliver            ack: finished          first of all open ones
//	server ──────────► handed out ─────────► waits ───────────────► acknowledged, with
//	   ▲                │     ▲               │                      all before it
//	   │                │nack └─ delay ─┐     │ 50ms behind a slow one
//	   │                └───────────────┘     └────────────────────► acknowledged singly
//	   └── the channel closes, or the connection is lost
//
// Redeliveries after a nack, delayed or not, come from the consumer's memory, in
// their lane; the server knows nothing of them. It counts what comes back to it,
// in x-delivery-count, when a consumer dies or leaves. Delivery.Attempt is both
// together.
//
// # Poison
//
// A message that was handed out MaxDeliveries times is buried: published to the
// dead-letter topic with the reason, then acknowledged. When consumers die, the
// server counts a return for everything they had been sent ahead as well. From
// half of the limit on, a consumer therefore asks for one message at a time. The
// queue's own limit (x-delivery-limit) is set to the same number, for consumers of
// other programs; what it moves to the dead letters is never lost on the way (at
// least once, RabbitMQ 3.10 or later).
//
// # What the server may do at any time
//
// It may close connections: both are made anew, with growing pauses, and the
// topology is declared again. It may take a message back that was held longer than
// consumer_timeout, 30 minutes by default, by closing the channel: AMQP has no
// heartbeat for a message, so handlers must stay below it. (One that does not may
// still commit; the copy waits for it, or is a duplicate.) It may block connections
// that publish, when memory or disk run out: acknowledgements go over a connection
// of their own, publishes wait up to Config.PublishTimeout, and Ping reports the
// reason.
package rabbitmq
