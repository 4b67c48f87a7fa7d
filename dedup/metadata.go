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
	// MetaPublishedAt is the time of publication, RFC 3339 with nanoseconds, UTC.
	MetaPublishedAt = "hapax_published_at"

	// MetaTopic and MetaOutputID travel only from a handler to the commit:
	// they choose an output's topic and, if a handler insists, its event ID.
	// They are removed before publishing.
	MetaTopic    = "hapax_to"
	MetaOutputID = "hapax_output_id"
)

// DeadLetterTopic names the dead-letter topic of a topic: "orders" → "orders.dead".
func DeadLetterTopic(topic string) string { return topic + ".dead" }
