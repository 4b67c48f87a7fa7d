package memory

import (
	"encoding/binary"
	"math/bits"

	"github.com/hapax-go/hapax/dedup"
)

// marks keeps the marks of a shard in the order in which they were made, which
// is the order in which they expire, and finds them through an index of eight
// bytes a slot.
//
// A Go map of marks would be shorter to write and about twice as slow: for a
// new event both the lookup of the claim and the insert of the completion miss
// the processor's caches in a table of some hundred bytes a mark. Here the
// lookup touches one small slot, the insert the same slot again, and the mark
// itself goes to the end of a log that is always at hand.
type marks struct {
	// slots is an open-addressed table with linear probing, at most three
	// quarters full. A slot is 0 when empty, otherwise the hash of the ID (upper
	// half, top bit set) and the mark's number (lower half). The home of a hash
	// is given by its highest bits, so that doubling the table keeps the order
	// and streams through memory.
	slots []uint64
	shift int // of a 31-bit hash, to its home
	used  int

	// chunks is the log: mark number n is at n-base. Numbers wrap around, which
	// is harmless while less than 2³² marks of a shard are alive.
	chunks [][]mark
	base   uint32
	next   uint32 // number of the next mark
	oldest uint32
}

type mark struct {
	id     dedup.ID
	digest dedup.Digest
	token  uint64
	until  int64
}

const (
	chunkBits = 6
	chunkSize = 1 << chunkBits
	minSlots  = 64
	hashBits  = 31
)

// hashOf mixes all bytes of the ID: they are a hash already, but a caller with
// IDs of its own making should not meet a slow table.
func hashOf(id *dedup.ID) uint32 {
	low, high := binary.LittleEndian.Uint64(id[:8]), binary.LittleEndian.Uint64(id[8:])
	return uint32((low^bits.RotateLeft64(high, 32))*0x9e3779b97f4a7c15>>32) | 1<<hashBits
}

func (m *marks) home(hash uint32) int { return int(hash &^ (1 << hashBits) >> m.shift) }

func (m *marks) at(number uint32) *mark {
	offset := number - m.base
	return &m.chunks[offset>>chunkBits][offset%chunkSize]
}

// find returns the slot and mark of an ID, or nil. Only all 16 bytes decide.
func (m *marks) find(id *dedup.ID) (int, *mark) {
	if m.used == 0 {
		return 0, nil
	}
	hash := hashOf(id)
	for i := m.home(hash); ; i = (i + 1) & (len(m.slots) - 1) {
		slot := m.slots[i]
		if slot == 0 {
			return 0, nil
		}
		if uint32(slot>>32) == hash {
			if mark := m.at(uint32(slot)); mark.id == *id {
				return i, mark
			}
		}
	}
}

// add appends a mark. It reports false when it took the place of an expired mark
// of the same ID, whose entry in the log is passed over when its turn comes.
func (m *marks) add(new mark) bool {
	number := m.next
	m.next++
	if offset := int(number - m.base); offset == len(m.chunks)*chunkSize {
		m.chunks = append(m.chunks, make([]mark, chunkSize))
	}
	i, old := m.find(&new.id)
	*m.at(number) = new
	slot := uint64(hashOf(&new.id))<<32 | uint64(number)
	if old != nil {
		m.slots[i] = slot
		return false
	}
	if m.used++; m.used*4 > len(m.slots)*3 {
		m.grow()
	}
	m.insert(slot)
	return true
}

func (m *marks) insert(slot uint64) {
	i := m.home(uint32(slot >> 32))
	for m.slots[i] != 0 {
		i = (i + 1) & (len(m.slots) - 1)
	}
	m.slots[i] = slot
}

func (m *marks) grow() {
	old := m.slots
	m.slots = make([]uint64, max(minSlots, 2*len(old)))
	m.shift = hashBits - bits.TrailingZeros(uint(len(m.slots)))
	for _, slot := range old {
		if slot != 0 {
			m.insert(slot)
		}
	}
}

// head returns the oldest entry of the log, or nil.
func (m *marks) head() *mark {
	if m.oldest == m.next {
		return nil
	}
	return m.at(m.oldest)
}

// pop removes the oldest entry of the log. It reports false when the entry was
// no longer the mark of its ID.
func (m *marks) pop() bool {
	number := m.oldest
	i, mark := m.find(&m.at(number).id)
	current := mark != nil && uint32(m.slots[i]) == number
	if current {
		m.remove(i)
	}
	if m.oldest++; m.oldest-m.base == chunkSize {
		m.chunks[0] = nil
		m.chunks = m.chunks[1:]
		m.base = m.oldest
	}
	return current
}

// remove empties a slot and moves back those behind it that probing would no
// longer reach.
func (m *marks) remove(i int) {
	mask := len(m.slots) - 1
	for next := (i + 1) & mask; m.slots[next] != 0; next = (next + 1) & mask {
		home := m.home(uint32(m.slots[next] >> 32))
		if (next-home)&mask >= (next-i)&mask {
			m.slots[i] = m.slots[next]
			i = next
		}
	}
	m.slots[i] = 0
	m.used--
}
