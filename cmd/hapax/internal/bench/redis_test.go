package bench

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
)

// BenchmarkRedis runs the variants of broker "redis" one after the other, for
// profiles: go test -bench Redis/consume-produce/hapax-dedup -cpuprofile cpu.out
func BenchmarkRedis(b *testing.B) {
	if _, found := servers.Find(servers.Redis); !found {
		b.Skip("not run: no Redis; see make servers")
	}
	round := 0
	for _, name := range cases {
		for _, variant := range redisBrokers()[0].Variants {
			b.Run(name+"/"+variant.Name, func(b *testing.B) {
				lane, err := variant.Open(b.Context(), Env{Produce: name == ConsumeProduce, Payload: make([]byte, 1024), InFlight: 1000})
				require.NoError(b, err)
				b.ReportAllocs()
				round++
				meter := NewMeter()
				_, err = lane.Round(b.Context(), Load{Round: round, Messages: b.N}, meter)
				require.NoError(b, err)
				b.StopTimer()
				b.ReportMetric(float64(b.N)/meter.Elapsed.Seconds(), "messages/s")
				require.NoError(b, lane.Close())
			})
		}
	}
}
