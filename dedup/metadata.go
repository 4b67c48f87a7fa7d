package dedup

// Metadata names that Hapax reads and writes on messages. They cross every
// broker unchanged.
const (
	// MetaEventID is the stable event ID: the same on every copy of an event.
	MetaEventID = "hapax_event_id"
	// MetaKey is the ordering key: equal keys are processed in order, one at a
	// time. A message without it is ordered with nothing.
	MetaKey = "hapax_key"
	// MetaCause is the event ID of the event whose handler made this message.
	MetaCause = "hapax_cause"
	// MetaPublishedAt is the time of publication, RFC 3339 to the millisecond or better, UTC.
	MetaPublishedAt = "hapax_published_at"
	// MetaReplayedAt is the time an operator put the event back on its topic, in the
	// same form. It tells a replay from other copies, and decides nothing.
	MetaReplayedAt = "hapax_replayed_at"
	// MetaRelayAttempt is set by an outbox relay on what it publishes again, because
	// an earlier attempt may have got through. It decides nothing either.
	MetaRelayAttempt = "hapax_relay_attempt"

	// MetaTopic and MetaOutputID travel only from a handler to the commit:
	// they choose an output's topic and, if a handler insists, its event ID.
	// They are removed before publishing.
	MetaTopic    = "hapax_to"
	MetaOutputID = "hapax_output_id"
)

// Metadata of a dead letter, next to that of the event. What is not known is
// left out.
const (
	// MetaDeadReason says why: the Reason constants of package handlers, or an
	// adapter's words.
	MetaDeadReason = "hapax_dead_reason"
	// MetaDeadError is the error's text, at most 2 KiB.
	MetaDeadError = "hapax_dead_error"
	// MetaDeadStack is the stack of a panic, or that of an error that carries
	// one, at most 4 KiB.
	MetaDeadStack = "hapax_dead_stack"
	// MetaDeadAttempts counts the runs of the handler for the last delivery.
	MetaDeadAttempts = "hapax_dead_attempts"
	// MetaDeadTopic is the topic the event came from, and MetaDeadPosition its
	// place there: "orders/3@1234".
	MetaDeadTopic    = "hapax_dead_topic"
	MetaDeadPosition = "hapax_dead_position"
	// MetaDeadService and MetaDeadHandler name who could not process it.
	MetaDeadService = "hapax_dead_service"
	MetaDeadHandler = "hapax_dead_handler"
	// MetaDeadGroup is the consumer group that an adapter gave the event up for: it
	// knows neither services nor handlers.
	MetaDeadGroup = "hapax_dead_group"
	// MetaDeadAt is when: RFC 3339 with nanoseconds, UTC.
	MetaDeadAt = "hapax_dead_at"
)

// DeadLetterTopic names the dead-letter topic of a topic: "orders" → "orders.dead".
func DeadLetterTopic(topic string) string { return topic + ".dead" }
