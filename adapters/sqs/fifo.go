package sqs

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/hapax-go/hapax/dedup"
)

// noID begins the deduplication IDs of messages that have no ID: SQS insists on
// one. They are never taken for an event's identity.
const noID = "hapax-no-id-"

// fifoIDs returns the MessageDeduplicationId, the event's ID, and the
// MessageGroupId, its key. Events without a key are each a group of their own, so
// that they wait for none but their own copies.
func fifoIDs(msg *message.Message) (deduplication, group string) {
	position := msg.Metadata.Get(dedup.MetaDeadPosition)
	id, _, err := dedup.Identity{}.Find(msg)
	if err != nil {
		id = noID + watermill.NewUUID()
		if position != "" { // hashed, to be short enough to keep the beginning
			sum := sha256.Sum256([]byte(position))
			id = noID + hex.EncodeToString(sum[:16])
		}
	}
	group = msg.Metadata.Get(dedup.MetaKey)
	if group == "" {
		group = id
	}
	if replayed := msg.Metadata.Get(dedup.MetaReplayedAt); replayed != "" {
		// SQS would drop what an operator puts back within five minutes of its first
		// send. The event's ID is in its metadata, and decides.
		id += "/replayed/" + replayed
	}
	if position != "" && err == nil {
		// Two letters of one event are two messages that differ: SQS would drop the
		// second, and its content with it. A letter that is sent again has its position.
		id += "/dead/" + position
	}
	return legalID(id), legalID(group)
}

// legalID hashes what SQS does not take as an ID: over 128 characters, or others
// than letters, digits and ASCII punctuation.
func legalID(id string) string {
	illegal := func(r rune) bool { return r <= ' ' || r > '~' }
	if len(id) <= 128 && strings.IndexFunc(id, illegal) < 0 {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

// brokerID returns the deduplication ID that the producer chose, "" for none: an
// ID that SQS made of the content says nothing about the event, two of which may
// well have the same content.
func brokerID(m *types.Message) string {
	id := m.Attributes[string(types.MessageSystemAttributeNameMessageDeduplicationId)]
	if id == "" || strings.HasPrefix(id, noID) {
		return ""
	}
	if m.Body != nil {
		if sum := sha256.Sum256([]byte(*m.Body)); id == hex.EncodeToString(sum[:]) {
			return ""
		}
	}
	return id
}
