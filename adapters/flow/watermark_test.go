package flow_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hapax-go/hapax/adapters/flow"
)

// The model keeps every position ever begun, in order, and looks at them all.
func TestWatermarkAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w flow.Watermark
		var begun []int64
		done := map[int64]bool{}
		low := func() (at int64, any bool) {
			for _, p := range begun {
				if !done[p] {
					break
				}
				at, any = p, true
			}
			return at, any
		}
		next := rapid.Int64Range(-5, 5).Draw(t, "first")
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				w.Begin(next)
				begun = append(begun, next)
				next += rapid.SampledFrom([]int64{1, 1, 1, 2, 7, 1 << 40}).Draw(t, "gap")
			},
			"begin again": func(t *rapid.T) {
				if len(begun) > 0 {
					w.Begin(rapid.SampledFrom(begun).Draw(t, "position"))
				}
			},
			"done": func(t *rapid.T) {
				if len(begun) == 0 {
					t.Skip("nothing begun")
				}
				at := rapid.SampledFrom(begun).Draw(t, "position")
				before, anyBefore := low()
				done[at] = true
				after, any := low()
				got, advanced := w.Done(at)
				require.Equal(t, any && (!anyBefore || after != before), advanced)
				if advanced {
					require.Equal(t, after, got)
				}
			},
			"done, never begun": func(t *rapid.T) {
				at := rapid.Int64Range(-10, next+10).Draw(t, "position")
				if slices.Contains(begun, at) {
					t.Skip("begun")
				}
				_, advanced := w.Done(at)
				require.False(t, advanced)
			},
			"reset": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "rarely") > 0 {
					t.Skip("not now")
				}
				w.Reset()
				begun, done = nil, map[int64]bool{}
				next = rapid.Int64Range(-5, 5).Draw(t, "first")
			},
			"": func(t *rapid.T) {
				require.Equal(t, len(begun)-len(done), w.Pending())
			},
		})
	})
}

func BenchmarkWatermark(b *testing.B) {
	const window = 1000
	for _, gap := range []int64{1, 3} {
		b.Run(map[int64]string{1: "dense", 3: "gaps"}[gap], func(b *testing.B) {
			b.ReportAllocs()
			var w flow.Watermark
			var begun, done int64
			for b.Loop() {
				w.Begin(begun * gap)
				begun++
				if begun-done == window { // finished in pairs, the younger first
					w.Done((done + 1) * gap)
					w.Done(done * gap)
					done += 2
				}
			}
		})
	}
}
