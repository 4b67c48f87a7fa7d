package bench

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkMemory runs the variants of broker "memory" one after the other, for
// profiles: go test -bench Memory/consume/hapax-dedup -cpuprofile cpu.out
// Compare variants with hapax bench, which interleaves them.
func BenchmarkMemory(b *testing.B) {
	for _, name := range cases {
		for _, variant := range memoryBroker().Variants {
			b.Run(name+"/"+variant.Name, func(b *testing.B) {
				lane, err := variant.Open(b.Context(), Env{Produce: name == ConsumeProduce, Payload: make([]byte, 1024), InFlight: 1000})
				require.NoError(b, err)
				b.ReportAllocs()
				_, err = lane.Round(b.Context(), Load{Round: b.N, Messages: b.N}, NewMeter())
				require.NoError(b, err)
				b.StopTimer()
				require.NoError(b, lane.Close())
			})
		}
	}
}
