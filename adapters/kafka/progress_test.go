package kafka

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The watermark agrees with one that looks at every offset each time. Control records are
// settled when they come, and offsets have gaps where a log was compacted.
func TestProgressAgreesWithAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, states, top := newProgress(), map[int64]offsetState{}, int64(-1)
		state := rapid.SampledFrom([]offsetState{open, staged, settled})
		low := func(withStaged bool) int64 {
			for at := range top + 1 {
				if state, begun := states[at]; begun && (state == open || state == staged && !withStaged) {
					return at
				}
			}
			return top + 1
		}
		committed := int64(-1)
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				at := top + rapid.Int64Range(-2, 3).Draw(t, "beyond the top")
				initial := rapid.SampledFrom([]offsetState{open, settled}).Draw(t, "state")
				if at < 0 {
					t.Skip("before the log")
				}
				require.Equal(t, at > top, p.begin(at, initial))
				if at > top {
					top, states[at] = at, initial
				}
			},
			"set": func(t *rapid.T) {
				at, to := rapid.Int64Range(0, top+1).Draw(t, "at"), state.Draw(t, "state")
				p.set(at, to)
				if was, begun := states[at]; begun && was != settled {
					states[at] = to
				}
			},
			"done": func(t *rapid.T) {
				next := rapid.Int64Range(0, top+1).Draw(t, "next")
				p.done(next)
				committed = max(committed, next)
			},
			"": func(t *rapid.T) {
				for _, withStaged := range []bool{true, false} {
					next, news := p.low(withStaged)
					require.Equal(t, low(withStaged), next)
					require.Equal(t, top >= 0 && next > committed, news)
				}
				unsettled := top + 1
				for at := range top + 1 {
					if state, begun := states[at]; begun && state != settled {
						unsettled = at
						break
					}
				}
				for at := range top + 1 {
					require.Equal(t, at < unsettled, p.settledTo(at), "settled to %d", at)
				}
			},
		})
	})
}
