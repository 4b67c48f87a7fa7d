package memory

import (
	"math"

	"github.com/hapax-go/hapax/dedup"
)

// leases keeps the leases of a shard. Places are used again, last freed first,
// so that the few that are in flight stay in the processor's cache.
type leases struct {
	free place // the first, 0: none; its token says which is next
	used int32
	all  []lease
}

type lease struct {
	id     dedup.ID
	digest dedup.Digest
	token  uint64
	until  int64
	_      [16]byte // to a whole cache line
}

// never is the until of a lease without an end, and of a place that is free: no sweep
// finds them due.
const never = math.MaxInt64

func (l *leases) at(p place) *lease { return &l.all[p&^leased] }

func (l *leases) add(new lease) place {
	l.used++
	if p := l.free; p != 0 {
		l.free = place(l.at(p).token)
		*l.at(p) = new
		return p
	}
	l.all = append(l.all, new)
	return leased | place(len(l.all)-1)
}

func (l *leases) remove(p place) {
	freed := l.at(p)
	freed.token, freed.until = uint64(l.free), never
	l.free = p
	l.used--
}
