package demo

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// A consumer that is told to stop while it still starts has stopped cleanly.
func TestAWorkerIsStoppedWhileItStarts(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for _, lane := range []string{lanePlain, laneHapax} {
		require.NoError(t, worker{broker: "sqlite", lane: lane, folder: t.TempDir(), name: "consumer"}.run(ctx), lane)
	}
}
