package kafka

import (
	"encoding/binary"
	"math/bits"
	"time"

	"github.com/hapax-go/hapax/dedup"
)

// idTable is the processed IDs of one partition: 22 bytes an entry in open
// addressed shards that fill to 0.88 and grow by 1.4, so that an ID takes between
// 25 and 36 bytes. It decides on all 16 bytes of an ID (I8). Of the digest it keeps
// 32 bits, which only tell conflicts from duplicates.
//
// Entries expire by time bucket. They are dropped when their shard fills up, and
// not counted meanwhile. The caller locks.
type idTable struct {
	step    int64 // seconds a bucket
	buckets int64 // age in buckets from which an entry is forgotten
	swept   int64 // bucket of the last full sweep
	seen    int64 // bucket of the last look
	shards  [tableShards]idShard
	count   int
	// limit is asked before the table grows.
	limit func(more int64) error
}

const (
	tableShards = 16
	fillPercent = 88
	entrySize   = 22
	// sweepAfter is the most buckets between two full sweeps. A bucket is kept
	// in 16 bits, so an entry forgotten for 65,536 of them would come to life
	// again.
	sweepAfter = 1 << 14
)

type idEntry struct {
	id     dedup.ID // zero: free
	digest [4]byte
	bucket [2]byte
}

type idShard struct {
	entries []idEntry
	used    int
}

func newIDTable(window time.Duration, limit func(more int64) error) *idTable {
	step := max(int64(window/time.Second)/128, 1)
	return &idTable{step: step, buckets: (int64(window/time.Second)+step-1)/step + 1, limit: limit}
}

func (t *idTable) bucket(at time.Time) int64 { return at.Unix() / t.step }

// fingerprint shortens a digest; only the zero digest becomes zero.
func fingerprint(digest dedup.Digest) (short [4]byte) {
	copy(short[:], digest[:4])
	if short == ([4]byte{}) && digest != (dedup.Digest{}) {
		short[0] = 1
	}
	return short
}

// expired reports whether an entry's bucket is out of the window, now.
func (t *idTable) expired(e *idEntry, now int64) bool {
	age := uint16(now) - binary.LittleEndian.Uint16(e.bucket[:])
	// An entry from the future, by another machine's clock, has a huge age here.
	return int64(age) > t.buckets && age < 1<<15
}

// place finds the shard and the slot where an ID's search begins. IDs are hashes
// already.
func (t *idTable) place(id dedup.ID) (*idShard, uint64) {
	shard := &t.shards[id[0]%tableShards]
	high, _ := bits.Mul64(binary.LittleEndian.Uint64(id[8:]), uint64(len(shard.entries)))
	return shard, high
}

// verdict looks an ID up: Fresh, Duplicate or Conflict.
func (t *idTable) verdict(id dedup.ID, digest dedup.Digest, now time.Time) dedup.Verdict {
	at := t.bucket(now)
	t.sweep(at)
	e := t.find(id)
	if e == nil || e.id == (dedup.ID{}) || t.expired(e, at) {
		return dedup.Fresh
	}
	if short := fingerprint(digest); short != e.digest && short != ([4]byte{}) && e.digest != ([4]byte{}) {
		return dedup.Conflict
	}
	return dedup.Duplicate
}

// find returns the ID's entry, or the free one where it would go; nil when the
// shard is empty.
func (t *idTable) find(id dedup.ID) *idEntry {
	shard, slot := t.place(id)
	if len(shard.entries) == 0 {
		return nil
	}
	for {
		e := &shard.entries[slot]
		if e.id == id || e.id == (dedup.ID{}) {
			return e
		}
		if slot++; slot == uint64(len(shard.entries)) {
			slot = 0
		}
	}
}

// add remembers an ID that was processed at a time. The first digest stays: it is
// that of the copy which took effect.
func (t *idTable) add(id dedup.ID, digest [4]byte, at, now time.Time) error {
	t.sweep(t.bucket(now))
	e := t.find(id)
	fresh := e == nil || e.id != id
	if fresh {
		shard, _ := t.place(id)
		if (shard.used+1)*100 > len(shard.entries)*fillPercent {
			if err := t.rebuild(shard, t.bucket(now), true); err != nil {
				return err
			}
			e = t.find(id)
		}
		shard.used++
		t.count++
	}
	bucket := uint16(t.bucket(at))
	if fresh || t.expired(e, t.bucket(now)) {
		*e = idEntry{id: id, digest: digest}
	} else if uint16(bucket-binary.LittleEndian.Uint16(e.bucket[:])) >= 1<<15 {
		return nil // older than what is known already
	}
	binary.LittleEndian.PutUint16(e.bucket[:], bucket)
	return nil
}

// rebuild drops a shard's expired entries; with grow it makes the shard larger
// unless that made room enough.
func (t *idTable) rebuild(shard *idShard, now int64, grow bool) error {
	live := 0
	for i := range shard.entries {
		if e := &shard.entries[i]; e.id != (dedup.ID{}) && !t.expired(e, now) {
			live++
		}
	}
	size := max(len(shard.entries), 16)
	if grow && live*100 > size*65 {
		size = size * 7 / 5
	}
	if more := int64(size-len(shard.entries)) * entrySize; more > 0 {
		if err := t.limit(more); err != nil {
			return err
		}
	}
	old := shard.entries
	shard.entries = make([]idEntry, size)
	t.count += live - shard.used
	shard.used = live
	for i := range old {
		if e := &old[i]; e.id != (dedup.ID{}) && !t.expired(e, now) {
			*t.find(e.id) = *e
		}
	}
	return nil
}

// sweep rebuilds every shard, when the last time is long ago. A table that nobody
// has looked at for longer than the window has nothing left to remember.
func (t *idTable) sweep(now int64) {
	if t.seen == 0 {
		t.swept = now
	}
	idle := t.seen != 0 && now-t.seen > t.buckets+1
	t.seen = max(t.seen, now)
	if idle {
		t.swept, t.count = now, 0
		for i := range t.shards {
			clear(t.shards[i].entries)
			t.shards[i].used = 0
		}
		return
	}
	if now-t.swept < sweepAfter {
		return
	}
	t.swept = now
	for i := range t.shards {
		if shard := &t.shards[i]; shard.used > 0 {
			_ = t.rebuild(shard, now, false) // fails only when it grows
		}
	}
}

// bytes is the memory the table takes.
func (t *idTable) bytes() (n int64) {
	for i := range t.shards {
		n += int64(len(t.shards[i].entries)) * entrySize
	}
	return n
}
