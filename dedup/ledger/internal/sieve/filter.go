package sieve

import (
	"encoding/binary"
	"math/bits"

	"github.com/hapax-go/hapax/dedup"
)

const (
	hashes    = 8
	bitsPerID = 16 // at least; the size is a power of two
)

// probes are the places of an ID in a filter of 2⁶⁴ bits; a smaller one takes
// them modulo its size.
func probes(id dedup.ID) (places [hashes]uint64) {
	// IDs are hashes already, but a caller with IDs of its own making should not
	// meet a filter that lets everything through.
	low, high := binary.LittleEndian.Uint64(id[:8]), binary.LittleEndian.Uint64(id[8:])
	first := (low ^ bits.RotateLeft64(high, 32)) * 0x9e3779b97f4a7c15
	first ^= first >> 29
	step := (high^bits.RotateLeft64(low, 17))*0xbf58476d1ce4e5b9 | 1
	step ^= step >> 31 & ^uint64(1)
	for i := range places {
		places[i] = first
		first += step
	}
	return places
}

// Filter is the filter of one set. It can be stored as it is.
type Filter []byte

// NewFilter returns the filter of a set of count IDs, which have to be added.
func NewFilter(count int64) Filter {
	return make(Filter, 1<<max(10, bits.Len64(uint64(max(count, 1)*bitsPerID-1)))/8)
}

// Valid reports whether stored bytes can be a filter.
func (f Filter) Valid() bool { return len(f) >= 8 && len(f)&(len(f)-1) == 0 }

// Add adds an ID.
func (f Filter) Add(id dedup.ID) {
	for _, place := range probes(id) {
		place &= uint64(len(f)*8 - 1)
		f[place/8] |= 1 << (place % 8)
	}
}
