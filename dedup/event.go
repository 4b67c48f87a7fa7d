package dedup

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/zeebo/xxh3"
)

// Scope says who processes: a service's handler. The same event is processed
// once by every scope, so two handlers of one topic each see it once.
type Scope struct {
	Service string
	Handler string
}

// ID identifies one event within one scope: the first 16 bytes of SHA-256 over
// (service, handler, event ID), each length-prefixed so that no two triples
// share an encoding. Stores decide "duplicate" only on all 16 bytes (I8).
type ID [16]byte

// String returns the ID as 32 hexadecimal digits.
func (id ID) String() string {
	var text [32]byte
	hex.Encode(text[:], id[:])
	return string(text[:])
}

// IsZero reports whether the ID was never set.
func (id ID) IsZero() bool { return id == ID{} }

// NewID derives the ID of an event within a scope.
func NewID(scope Scope, eventID string) ID {
	var stack [160]byte
	return hashed(appendPart(scope.appendTo(stack[:0]), eventID))
}

// Output is the event ID of output number index that a handler makes of the event
// with this ID (I7). It is the same on every run of the handler, so a copy that is
// published again after a crash carries the same ID and the next consumer's ledger
// absorbs it.
func (id ID) Output(index int) string {
	// One block of SHA-256. The letter keeps it apart from the input of NewID, which
	// begins with the length of a service's name.
	var stack [32]byte
	input := append(append(stack[:0], "\xffoutput"...), id[:]...)
	return hashed(binary.BigEndian.AppendUint64(input, uint64(index))).String()
}

func (s Scope) appendTo(buffer []byte) []byte {
	return appendPart(appendPart(buffer, s.Service), s.Handler)
}

// appendPart is not inlined because the copies of it would triple the frames of its
// callers: Watermill runs each message on a new goroutine, whose stack would have to
// grow once more.
//
//go:noinline
func appendPart(buffer []byte, part string) []byte {
	return append(binary.AppendUvarint(buffer, uint64(len(part))), part...)
}

func hashed(buffer []byte) (id ID) {
	sum := sha256.Sum256(buffer)
	copy(id[:], sum[:])
	return id
}

// Digest is a 128-bit XXH3 hash of a payload. It only tells "same ID, same
// content" from "same ID, other content" (I6); it never decides "duplicate".
// The zero Digest matches every other: it stands for "not compared".
type Digest [16]byte

// NewDigest hashes a payload. The result is never zero.
func NewDigest(payload []byte) Digest {
	digest := Digest(xxh3.Hash128(payload).Bytes())
	if digest == (Digest{}) {
		digest[0] = 1
	}
	return digest
}

// Matches reports whether two digests stand for the same content; a zero digest
// on either side matches, because one of the two was not compared.
func (d Digest) Matches(other Digest) bool {
	return d == other || d == Digest{} || other == Digest{}
}

// Verdict is the answer to "may this delivery take effect?".
type Verdict uint8

const (
	// Undecided is the zero value: the event was not claimed yet.
	Undecided Verdict = iota
	// Fresh: nobody has processed it; the claimant may.
	Fresh
	// Duplicate: its mark is durable. Only this verdict may be acknowledged
	// without running the handler (I4).
	Duplicate
	// InFlight: another worker holds the lease and has not committed.
	InFlight
	// Conflict: the ID is marked, or leased, with another payload.
	Conflict
)

// String returns the verdict in lower case, as used in logs and metrics.
func (v Verdict) String() string {
	switch v {
	case Fresh:
		return "fresh"
	case Duplicate:
		return "duplicate"
	case InFlight:
		return "in flight"
	case Conflict:
		return "conflict"
	default:
		return "undecided"
	}
}

// Entry is what a ledger stores of an event.
type Entry struct {
	// ID is the event's identity within its scope.
	ID ID
	// Digest is the payload's digest; zero when conflicts are ignored, or the ID is
	// the content's hash.
	Digest Digest
	// Token fences the claim. The claimant draws it, unique among all claims
	// ever made (NextToken); a store accepts Renew, Complete and Release only
	// from the token that holds the lease (I5). Uniqueness matters more than
	// order: a counter kept with the lease would start again after a Release,
	// and let an old owner in.
	Token uint64
	// EventID is the readable ID, kept for reports only.
	EventID string
	// Scope and Topic say where the event was processed, for reports only.
	Scope Scope
	Topic string

	// Verdict is set by Ledger.Claim.
	Verdict Verdict
	// Lost is set by Ledger.Renew and Ledger.Complete when the token no longer
	// holds the lease.
	Lost bool
}

// Event is one delivery on its way through the middleware.
type Event struct {
	Entry
	// Source says where the event ID was found.
	Source Source
	// Message is the delivery itself. Its context carries what the adapter
	// attached to it.
	Message *message.Message

	// space is room for the claim of a ledger strategy, in the allocation of the
	// event; nil: there is none.
	space *ledgerClaim
}
