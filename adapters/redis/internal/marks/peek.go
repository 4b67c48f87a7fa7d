package marks

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hapax-go/hapax/dedup"
)

// Peek looks marks up without a script, at a sixth of the server's time. It is for one
// goroutine.
type Peek struct {
	set     Set
	windows string // key of the handler's hash
	known   directory
	skew    time.Duration // of the clock; for tests
}

// NewPeek looks into a set; windows is the key of the handler's hash.
func NewPeek(set Set, windows string) *Peek {
	return &Peek{set: set, windows: windows, known: directory{level: firstLevel}}
}

// Found is what a set has of an ID.
type Found struct {
	Marked bool
	Tag    Tag
	Place  Place // when it is not marked
}

// Place is the free place in which an ID is to be marked. What a script finds there
// proves that nobody has marked the ID since, or that it must look for itself. The zero
// Place is none.
type Place struct {
	bucket uint32
	at     uint16
	stamp  uint64
}

// AppendTo appends the place to an ID and its tag, as scripts have it: two bytes, eight,
// and the number of the bucket as text.
func (p Place) AppendTo(packed []byte) []byte {
	if p.stamp == 0 {
		return packed
	}
	packed = binary.BigEndian.AppendUint16(packed, p.at)
	packed = binary.BigEndian.AppendUint64(packed, p.stamp)
	return strconv.AppendUint(packed, uint64(p.bucket), 10)
}

// MaxPlace is the most bytes that AppendTo appends.
const MaxPlace = 2 + 8 + 10

// ErrCannotPeek: only a script can tell.
var ErrCannotPeek = errors.New("the marks can only be read by a script")

// Look finds IDs, and answers in their order. First is sent to the server before.
// ErrCannotPeek when the handler has marks of other windows, or none for long.
//
// The directory and the buckets are read by one command, so they belong together; which
// buckets to read is known from the directory before. Where that was another one, some
// are read again: few, because a call of the commit script divides 16 at most.
func (p *Peek) Look(ctx context.Context, client redis.Cmdable, ids []dedup.ID, first func(redis.Pipeliner)) ([]Found, error) {
	found := make([]Found, len(ids))
	open := make([]int, len(ids)) // positions of what is not yet found
	for i := range open {
		open[i] = i
	}
	for range 5 {
		asked := p.known
		keys := make([]string, 1, 1+len(open))
		keys[0] = p.set.Key
		for _, i := range open {
			keys = append(keys, p.set.bucket(asked.bucket(ids[i])))
		}
		pipe := client.Pipeline()
		if first != nil {
			first(pipe)
			first = nil
		}
		clock, windows, read := pipe.Time(ctx), pipe.HGetAll(ctx, p.windows), pipe.MGet(ctx, keys...)
		_, _ = pipe.Exec(ctx) // the first of its errors may be none of these commands'
		if err := cmp.Or(clock.Err(), windows.Err(), read.Err()); err != nil {
			return nil, err
		}
		for window := range windows.Val() {
			if window != strconv.FormatInt(p.set.Window.Milliseconds(), 10) {
				return nil, ErrCannotPeek
			}
		}
		slice, ok := p.slice(clock.Val().Add(p.skew), read.Val()[0])
		if !ok {
			return nil, ErrCannotPeek
		}
		left := open[:0]
		for n, i := range open {
			if p.known.bucket(ids[i]) != asked.bucket(ids[i]) {
				left = append(left, i)
				continue
			}
			bucket, _ := read.Val()[1+n].(string)
			found[i] = find(bucket, ids[i], slice)
			found[i].Place.bucket = asked.bucket(ids[i])
		}
		if open = left; len(open) == 0 {
			return found, nil
		}
	}
	return nil, ErrCannotPeek
}

// slice reads the directory, and returns the number of the slice of time; false when all
// marks are dead and some may be about to come to life.
func (p *Peek) slice(now time.Time, stored any) (byte, bool) {
	current := now.UnixMilli() / p.set.SliceLength()
	text, exists := stored.(string)
	p.known = directory{level: firstLevel}
	if exists {
		var cursor, passed, count, seen int64
		if n, _ := fmt.Sscan(text, &p.known.level, &p.known.split, &cursor, &passed, &count, &seen); n < 6 || current-seen > 100 {
			return 0, false
		}
	}
	return byte(current%255 + 1), true
}

const (
	record     = 18
	firstLevel = 256
)

// directory is the part of it that tells where IDs are.
type directory struct{ level, split uint32 }

// bucket is bucketOf of marks.lua.
func (d directory) bucket(id dedup.ID) uint32 {
	hash := binary.LittleEndian.Uint32(id[:])
	if number := hash % d.level; number >= d.split {
		return number
	}
	return hash % (2 * d.level)
}

func (s Set) bucket(number uint32) string {
	return string(strconv.AppendUint(append(append(make([]byte, 0, len(s.Key)+11), s.Key...), ':'), uint64(number), 10))
}

// find looks for an ID in a bucket.
func find(bucket string, id dedup.ID, slice byte) (found Found) {
	full := true
	for at := 0; at+record <= len(bucket); at += record {
		place := bucket[at : at+record]
		switch marked := place[15]; {
		case marked == 0:
			if full && place[8:] == string(zeros[:]) {
				found.Place = Place{at: uint16(at), stamp: binary.BigEndian.Uint64([]byte(place[:8]))}
			}
			full = false // a new mark goes to the first free place, and to no other
		case place[:15] == string(id[1:]):
			if !lives(marked, slice) { // to be written over
				return Found{}
			}
			return Found{Marked: true, Tag: Tag([]byte(place[16:]))}
		}
	}
	return found
}

var zeros [record - 8]byte

// lives is that of marks.lua.
func lives(marked, slice byte) bool {
	age := (int(slice) - int(marked) + 255) % 255
	return age <= Slices || age >= 255-2*Slices
}
