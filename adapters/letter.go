package adapters

import (
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
)

// KeepBrokerID writes the broker's own ID of a message that becomes a letter down as
// its event ID, where that is what identifies the event: the letter is a message of
// its own to the broker, which may give it another. All other IDs travel as they are,
// and a UUID must not count for more than before: the config may pass over it.
func KeepBrokerID(letter *message.Message) {
	if id, source, err := (dedup.Identity{IgnoreUUID: true}).Find(letter); err == nil && source == dedup.SourceBroker {
		letter.Metadata.Set(dedup.MetaEventID, id)
	}
}
