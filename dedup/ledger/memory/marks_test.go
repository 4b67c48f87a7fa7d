package memory

import (
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hapax-go/hapax/dedup"
)

func TestShardsAndLeasesFillWholeCacheLines(t *testing.T) {
	require.EqualValues(t, 128, unsafe.Sizeof(shard{}))
	require.EqualValues(t, 64, unsafe.Sizeof(lease{}))
}

// TestAShardAgreesWithAMap compares a shard to a Go map through growth, removal
// from the middle of long probe sequences, taking over, expiry, and numbers that
// wrap around.
func TestAShardAgreesWithAMap(t *testing.T) {
	type state struct {
		marked bool
		token  uint64
		until  int64
	}
	const window, hold = 1000, 100
	rapid.Check(t, func(t *rapid.T) {
		now, token := int64(0), uint64(0)
		began := time.Now()
		l := New(Config{Window: window * time.Nanosecond, MaxEntries: -1, Now: func() time.Time { return began.Add(time.Duration(now)) }})
		start := rapid.SampledFrom([]uint32{0, numberMask - 200}).Draw(t, "start")
		s := &l.shards[0]
		s.marks = marks{next: start, oldest: start}
		live := map[dedup.ID]state{}
		// A claim may sweep leases that ran out a whole window ago, or leave them.
		sweepable := func(was state) bool { return !was.marked && was.until <= now-window }
		draw := func(t *rapid.T) *dedup.Entry { return &dedup.Entry{ID: dedup.ID{15: rapid.Byte().Draw(t, "id")}} }
		t.Repeat(map[string]func(*rapid.T){
			"claim": func(t *rapid.T) {
				for range rapid.IntRange(1, 60).Draw(t, "count") {
					entry := draw(t)
					token++
					entry.Token = token
					want := dedup.Fresh
					if was, found := live[entry.ID]; found && was.until > now {
						want = dedup.InFlight
						if was.marked {
							want = dedup.Duplicate
						}
					}
					require.True(t, s.claim(l, []*dedup.Entry{entry}, 0, now+hold))
					require.Equal(t, want, entry.Verdict)
					if want == dedup.Fresh {
						live[entry.ID] = state{token: token, until: now + hold}
					}
				}
			},
			"complete": func(t *rapid.T) {
				for range rapid.IntRange(1, 60).Draw(t, "count") {
					entry := draw(t)
					was, found := live[entry.ID]
					entry.Token = was.token
					s.complete(l, entry, now)
					switch {
					case found && sweepable(was) && entry.Lost:
						delete(live, entry.ID)
					case found && !was.marked:
						require.False(t, entry.Lost)
						live[entry.ID] = state{marked: true, token: was.token, until: now + window}
					default:
						require.Equal(t, !found || was.until <= now, entry.Lost)
					}
				}
			},
			"renew": func(t *rapid.T) {
				entry := draw(t)
				was, found := live[entry.ID]
				entry.Token = was.token
				s.renew(entry, now+hold)
				if found && sweepable(was) && entry.Lost {
					delete(live, entry.ID)
					return
				}
				require.Equal(t, !found || was.marked, entry.Lost)
				if !entry.Lost {
					live[entry.ID] = state{token: was.token, until: now + hold}
				}
			},
			"release": func(t *rapid.T) {
				for range rapid.IntRange(1, 60).Draw(t, "count") {
					entry := draw(t)
					was := live[entry.ID]
					entry.Token = was.token
					s.release(l, entry)
					if !was.marked {
						delete(live, entry.ID)
					}
				}
			},
			"wait": func(t *rapid.T) { now += rapid.Int64Range(1, 300).Draw(t, "time") },
			"reclaim": func(*rapid.T) {
				l.reclaim(now)
				for id, was := range live {
					if was.marked && was.until <= now || was.until <= now-window {
						delete(live, id)
					}
				}
				require.Equal(t, len(live), l.Len())
			},
			"": func(t *rapid.T) {
				require.Equal(t, int(s.index.used), l.Len())
				for i := range 256 {
					id := dedup.ID{15: byte(i)}
					was, alive := live[id]
					slot, found := s.find(&id)
					if alive && was.until > now {
						require.True(t, found)
						at := s.index.place(slot)
						require.Equal(t, was.marked, at&leased == 0)
						require.Equal(t, id, *s.id(at))
					}
				}
			},
		})
	})
}
