package memory

import "github.com/hapax-go/hapax/dedup"

// marks is the log of a shard's marks in the order in which they were made,
// which is the order in which they expire. A chunk holds those whose numbers differ
// in the lowest bits only: 12 KiB, because the garbage collector looks for each chunk.
// Numbers have 31 bits and wrap around, which is harmless while less than 2³¹ marks of a
// shard are alive.
type marks struct {
	next   uint32 // number of the next mark
	oldest uint32
	last   *chunk // of chunks, so that a new mark need not look there
	chunks []*chunk
}

type chunk [chunkSize]mark

type mark struct {
	id     dedup.ID
	digest dedup.Digest
	token  uint64
	until  int64
}

const (
	chunkBits  = 8
	chunkSize  = 1 << chunkBits
	numberMask = uint32(leased) - 1
)

func (m *marks) at(number place) *mark {
	offset := (uint32(number) - m.oldest&^(chunkSize-1)) & numberMask
	return &m.chunks[offset>>chunkBits][offset%chunkSize]
}

func (m *marks) append(new mark) place {
	number := place(m.next)
	if m.next%chunkSize == 0 || m.last == nil {
		m.last = &chunk{}
		m.chunks = append(m.chunks, m.last)
	}
	m.last[m.next%chunkSize] = new
	m.next = (m.next + 1) & numberMask
	// The next place is in no cache: the chunk was made many events of all shards ago.
	prefetchMark(&m.last[m.next%chunkSize])
	return number
}

// head returns the oldest mark, or nil.
func (m *marks) head() (place, *mark) {
	if m.oldest == m.next {
		return 0, nil
	}
	return place(m.oldest), m.at(place(m.oldest))
}

// pop removes the oldest mark.
func (m *marks) pop() {
	m.oldest = (m.oldest + 1) & numberMask
	if m.oldest%chunkSize == 0 {
		m.chunks[0] = nil
		m.chunks = m.chunks[1:]
	}
}
