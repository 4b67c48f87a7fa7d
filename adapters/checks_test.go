package adapters_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
)

func TestClockFinding(t *testing.T) {
	before := time.Now()
	after := before.Add(time.Second)
	for skew, ok := range map[time.Duration]bool{
		0: true, 500 * time.Millisecond: true, 5 * time.Second: true, -5 * time.Second: true,
		7 * time.Second: false, -6 * time.Second: false, time.Hour: false,
	} {
		finding := adapters.ClockFinding("clock", "server", before, before.Add(skew), after)
		require.Equal(t, ok, finding.OK(), skew)
		require.Equal(t, ok, finding.Fix == "", skew)
	}
	require.Contains(t, adapters.ClockFinding("clock", "", before, before.Add(-time.Minute), after).Problem, "-1m0s")
}
