package bench

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkLane runs the variants of every broker one after the other, for profiles:
// go test -run '^$' -bench Lane/redis/consume-produce/hapax-dedup -benchtime 100000x -cpuprofile cpu.out
// Compare variants with hapax bench, which interleaves them.
func BenchmarkLane(b *testing.B) {
	for _, broker := range Brokers() {
		for _, name := range cases {
			for _, variant := range broker.Variants {
				b.Run(broker.Name+"/"+name+"/"+variant.Name, func(b *testing.B) {
					lane, err := variant.Open(b.Context(), Env{Produce: name == ConsumeProduce, Payload: make([]byte, 1024), InFlight: 1000, Folder: filepath.Join(b.TempDir(), "lane")})
					require.NoError(b, err)
					b.ReportAllocs()
					meter := NewMeter()
					_, err = lane.Round(b.Context(), Load{Round: b.N, Messages: b.N}, meter)
					require.NoError(b, err)
					b.StopTimer()
					b.ReportMetric(float64(b.N)/meter.Elapsed.Seconds(), "messages/s")
					require.NoError(b, lane.Close())
				})
			}
		}
	}
}
