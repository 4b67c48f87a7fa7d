package memory

import (
	"math"

	"github.com/hapax-go/hapax/dedup"
)

// leases keeps the leases of a shard. Places are used again, last freed first,
// so that the few that are in flight stay in the processor's cache.
type leases struct {
	all  []lease
	free place // the first, 0: none; its token says which is next
	used int
}

type lease struct {
	id     dedup.ID
	digest dedup.Digest
	token  uint64
	until  int64
}

// never is the until of a place that is free: no sweep finds it due.
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
	*l.at(p) = lease{token: uint64(l.free), until: never}
	l.free = p
	l.used--
}
