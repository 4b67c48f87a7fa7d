package redis

import (
	"github.com/ThreeDotsLabs/watermill/message"
)

// unpackMetadata reads a MessagePack map of strings into metadata. False, with some of
// it read, when it is anything else. Names and values are parts of packed: a copy of
// each cost more than all else here.
func unpackMetadata(packed string, into message.Metadata) bool {
	u := unpacker{rest: packed}
	pairs := u.length(0x80, 0x0f, "", "\xde", "\xdf")
	for ; pairs > 0 && !u.failed; pairs-- {
		name, value := u.text(), u.text()
		if !u.failed {
			into[name] = value
		}
	}
	return !u.failed
}

// unpacker reads MessagePack from a string.
type unpacker struct {
	rest   string
	failed bool
}

// length reads the head of a value: a byte that has the length in the bits of mask, or
// one of those given, which 1, 2 and 4 bytes of length follow.
func (u *unpacker) length(fixed, mask byte, one, two, four string) (n int) {
	if u.rest == "" {
		u.failed = true
		return 0
	}
	head := u.rest[:1]
	u.rest = u.rest[1:]
	bytes := 0
	switch {
	case head[0]&^mask == fixed:
		return int(head[0] & mask)
	case head == one:
		bytes = 1
	case head == two:
		bytes = 2
	case head == four:
		bytes = 4
	}
	if bytes == 0 || len(u.rest) < bytes {
		u.failed = true
		return 0
	}
	for i := range bytes {
		n = n<<8 | int(u.rest[i])
	}
	u.rest = u.rest[bytes:]
	return n
}

func (u *unpacker) text() (text string) {
	n := u.length(0xa0, 0x1f, "\xd9", "\xda", "\xdb")
	if u.failed || n > len(u.rest) {
		u.failed = true
		return ""
	}
	text, u.rest = u.rest[:n], u.rest[n:]
	return text
}
