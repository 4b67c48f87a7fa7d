package memory

import (
	"encoding/binary"
	"math/bits"

	"github.com/hapax-go/hapax/dedup"
)

// index finds the leases and marks of a shard, eight bytes a slot.
//
// A Go map would be shorter to write and about twice as slow: for a new event
// both the lookup of the claim and the insert of the completion miss the
// processor's caches in a table of some hundred bytes an entry. Here the claim
// touches one small slot and fills it, and the completion changes the same slot.
//
// It is an open-addressed table with linear probing, at most three quarters
// full. A slot is 0 when empty, otherwise the hash of the ID (upper half, top bit
// set) and where its entry is (lower half). The home of a hash is given by its
// highest bits, so that doubling the table keeps the order and streams through
// memory.
type index struct {
	slots []uint64
	shift int32 // of a 31-bit hash, to its home
	used  int32
}

// place says where an entry is: among the leases when the top bit is set, else
// in the log of marks.
type place uint32

const (
	leased   place = 1 << 31
	hashBits       = 31
	minSlots       = 64
)

// hashOf mixes all bytes of the ID: they are a hash already, but a caller with
// IDs of its own making should not meet a slow table.
func hashOf(id *dedup.ID) uint32 {
	low, high := binary.LittleEndian.Uint64(id[:8]), binary.LittleEndian.Uint64(id[8:])
	return uint32((low^bits.RotateLeft64(high, 32))*0x9e3779b97f4a7c15>>32) | 1<<hashBits
}

func (x *index) home(hash uint32) int { return int(hash &^ (1 << hashBits) >> x.shift) }

func (x *index) place(slot int) place { return place(x.slots[slot]) }

// set points an occupied slot to another entry of the same ID.
func (x *index) set(slot int, to place) { x.slots[slot] = x.slots[slot]>>32<<32 | uint64(to) }

// fill takes an empty slot, which find has returned, for a new ID.
func (x *index) fill(slot int, id *dedup.ID, to place) {
	x.slots[slot] = uint64(hashOf(id))<<32 | uint64(to)
	x.used++
}

// makeRoom makes sure that there is an empty slot for one more entry.
func (x *index) makeRoom() {
	if (int(x.used)+1)*4 <= len(x.slots)*3 {
		return
	}
	old := x.slots
	x.slots = make([]uint64, max(minSlots, 2*len(old)))
	x.shift = int32(hashBits - bits.TrailingZeros(uint(len(x.slots))))
	for _, slot := range old {
		if slot == 0 {
			continue
		}
		i := x.home(uint32(slot >> 32))
		for x.slots[i] != 0 {
			i = (i + 1) & (len(x.slots) - 1)
		}
		x.slots[i] = slot
	}
}

// remove empties a slot and moves back those behind it that probing would no
// longer reach.
func (x *index) remove(slot int) {
	mask := len(x.slots) - 1
	for next := (slot + 1) & mask; x.slots[next] != 0; next = (next + 1) & mask {
		home := x.home(uint32(x.slots[next] >> 32))
		if (next-home)&mask >= (next-slot)&mask {
			x.slots[slot] = x.slots[next]
			slot = next
		}
	}
	x.slots[slot] = 0
	x.used--
}
