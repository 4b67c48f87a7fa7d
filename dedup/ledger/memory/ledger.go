package memory

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/hapax-go/hapax/dedup"
)

// ErrFull: the ledger holds MaxEntries marks and leases. Claim returns it rather
// than forget a mark early, which would let a duplicate through in silence.
var ErrFull = errors.New("memory ledger is full")

// Config configures a Ledger. The zero Config works.
type Config struct {
	// Window is how long a mark lasts. Default 168h. Choose it longer than the
	// broker can hold a copy back.
	Window time.Duration
	// MaxEntries bounds marks and leases kept at one time. Default 10,000,000
	// (about 650 MB); negative: no bound.
	MaxEntries int
	// Now reads the time. Default: the monotonic clock. Tests set it.
	Now func() time.Time
}

const (
	defaultWindow     = 168 * time.Hour
	defaultMaxEntries = 10_000_000
	maxShards         = 256
	shardsPerCPU      = 32
)

// Ledger is a dedup.Ledger in memory. Its calls never block on anything but a
// shard's lock, so they ignore their context. All methods are safe for
// concurrent use.
type Ledger struct {
	shards [maxShards]shard // first, so that each begins with a cache line
	start  time.Time
	now    func() time.Time // nil: time since start
	window int64
	max    int64
	mask   uint8    // of an ID's first byte, to its shard
	_      [64]byte // left changes, what is above never does
	// left is how many entries may be added beside those that shards have room for.
	left atomic.Int64
}

// roomPerShard is how many entries a shard takes room for at a time, so that it
// seldom meets the others at the ledger's count.
const roomPerShard = 64

var (
	_ dedup.Resident = (*Ledger)(nil)
	_ dedup.Expecter = (*Ledger)(nil)
)

// New makes an empty ledger.
func New(config Config) *Ledger {
	if config.Window <= 0 {
		config.Window = defaultWindow
	}
	if config.MaxEntries == 0 {
		config.MaxEntries = defaultMaxEntries
	}
	if config.MaxEntries < 0 {
		config.MaxEntries = math.MaxInt
	}
	ledger := &Ledger{start: time.Now(), now: config.Now, window: int64(config.Window), max: int64(config.MaxEntries), mask: shardMask()}
	if config.Now != nil {
		ledger.start = config.Now()
	}
	ledger.left.Store(ledger.max)
	for i := range ledger.shards {
		ledger.shards[i].sweepAt, ledger.shards[i].due = minSweep, noneDue
	}
	return ledger
}

// clock returns nanoseconds since the ledger was made. time.Since on a monotonic
// reading costs half of time.Now, which reads the wall clock as well.
func (l *Ledger) clock() int64 {
	if l.now == nil {
		return int64(time.Since(l.start))
	}
	return int64(l.now().Sub(l.start))
}

// end is when a lease that begins now runs out. One without an end costs no look at the clock.
func (l *Ledger) end(lease time.Duration) int64 {
	if lease == dedup.Forever {
		return never
	}
	return l.clock() + int64(lease)
}

// shard picks by the first byte: IDs are hashes, so every byte is even.
func (l *Ledger) shard(id dedup.ID) *shard { return &l.shards[id[0]&l.mask] }

// shardMask takes enough shards that processors seldom meet in one, and no more:
// each has its own lines in the processor's cache.
func shardMask() uint8 {
	mask := 1<<bits.Len(uint(shardsPerCPU*runtime.GOMAXPROCS(0)-1)) - 1
	return uint8(min(mask, maxShards-1))
}

// Len returns how many marks and leases are kept, expired ones that were not
// removed yet included.
func (l *Ledger) Len() (kept int) {
	for i := range l.shards {
		shard := &l.shards[i]
		shard.mu.Lock()
		kept += int(shard.index.used)
		shard.mu.Unlock()
	}
	return kept
}

// Expect implements dedup.Expecter: the slot of a new ID is in no cache.
func (l *Ledger) Expect(id dedup.ID) { prefetchHome(&l.shard(id).index, hashOf(&id)) }

// Claim implements dedup.Ledger. It returns ErrFull, and holds nothing, when an
// entry would exceed MaxEntries.
func (l *Ledger) Claim(_ context.Context, lease time.Duration, entries []*dedup.Entry) error {
	until := l.end(lease)
	for i, entry := range entries {
		shard := l.shard(entry.ID)
		if shard.claim(l, entries, i, until) {
			continue
		}
		l.reclaim(l.clock())
		if shard.claim(l, entries, i, until) {
			continue
		}
		for _, held := range entries[:i] {
			if held.Verdict == dedup.Fresh {
				l.shard(held.ID).release(l, held)
			}
			held.Verdict = dedup.Undecided
		}
		return fmt.Errorf("claim %d events: %w: it keeps %d marks and leases and may keep %d: raise MaxEntries, shorten the window, or use a ledger outside the process",
			len(entries), ErrFull, l.Len(), l.max)
	}
	return nil
}

// Renew implements dedup.Ledger.
func (l *Ledger) Renew(_ context.Context, lease time.Duration, entries []*dedup.Entry) error {
	until := l.end(lease)
	for _, entry := range entries {
		l.shard(entry.ID).renew(entry, until)
	}
	return nil
}

// Complete implements dedup.Ledger.
func (l *Ledger) Complete(_ context.Context, entries []*dedup.Entry) error {
	now := l.clock()
	for _, entry := range entries {
		l.shard(entry.ID).complete(l, entry, now)
	}
	return nil
}

// Release implements dedup.Ledger.
func (l *Ledger) Release(_ context.Context, entries []*dedup.Entry) error {
	for _, entry := range entries {
		l.shard(entry.ID).release(l, entry)
	}
	return nil
}

// Resident implements dedup.Resident.
func (l *Ledger) Resident() {}

// Close implements dedup.Ledger. There is nothing to release.
func (l *Ledger) Close() error { return nil }

// take returns how many entries a shard may add, 0 when the ledger is full. Shards
// take them singly when few are left, so that they hardly keep any from each other.
func (l *Ledger) take() int32 {
	for {
		left := l.left.Load()
		taken := min(left, roomPerShard, max(1, left/(2*maxShards)))
		if l.left.CompareAndSwap(left, left-taken) {
			return int32(taken)
		}
	}
}

// reclaim removes everything expired from every shard, and takes back the room that
// none has used, one lock at a time. Only a full ledger pays for it.
func (l *Ledger) reclaim(now int64) {
	for i := range l.shards {
		shard := &l.shards[i]
		shard.mu.Lock()
		for shard.expire(l, now) {
		}
		shard.sweep(l, now)
		l.left.Add(int64(shard.room))
		shard.room = 0
		shard.mu.Unlock()
	}
}
