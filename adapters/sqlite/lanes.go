package sqlite

import (
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/zeebo/xxh3"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// lane says which messages of a group are handed out one at a time, in order,
// across all members. text is for the flow, number for the table.
//
// A message with a key is ordered with its key. One without is ordered only with
// other copies of the same event: two members that ran copies at the same time
// would both do the work, and all but one would throw it away at the commit.
// A broker cannot always know which messages are copies; here it costs nothing.
//
// The number is a 64-bit hash. Two keys that share one merely wait for each other.
func lane(ordering adapters.Ordering, msg *message.Message) (text string, number int64) {
	const keySeed, eventSeed = 1, 2
	if ordering == adapters.OrderByPartition {
		return "*", 0 // the topic is one partition
	}
	if key := msg.Metadata.Get(dedup.MetaKey); key != "" && ordering == adapters.OrderByKey {
		return key, int64(xxh3.HashStringSeed(key, keySeed))
	}
	id, _, err := dedup.Identity{}.Find(msg)
	if err != nil {
		return "", 0
	}
	return id, int64(xxh3.HashStringSeed(id, eventSeed))
}
