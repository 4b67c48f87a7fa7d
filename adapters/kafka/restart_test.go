package kafka_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/servers"
)

// Acceptance scenario 11: a node of three is killed in the middle, and then the whole
// cluster restarts cleanly. Servers that others use are not restarted under them, so
// this asks for a folder of servers with three nodes, and for HAPAX_RESTART=1.
func TestBrokerRestarts(t *testing.T) {
	servers.OnRequest(t, "HAPAX_RESTART", "it restarts Kafka: bring a cluster of its own up (HAPAX_SERVERS_DIR=/tmp/k3 go run ./internal/servers/cmd up --only kafka --nodes 3) and set HAPAX_SERVERS_DIR too")
	brokers := realKafka(t)
	require.Len(t, brokers, 3, "three nodes are needed")
	const killNode, restart = fault.Action("kill a node"), fault.Action("restart cleanly")
	node, one := 0, sync.Mutex{} // one of the two at a time
	s := scenario{
		workload: small, members: 3, partitions: 6, order: order{Slow: 5 * time.Millisecond},
		plan: fault.Plan{Seed: 16, Effects: int64(small.Events) * 9 / 10, Strikes: []fault.Strike{
			{Action: killNode, EveryEffects: int64(small.Events) / 5},
			{Action: restart, EveryEffects: int64(small.Events) * 5 / 8},
			{Action: fault.ActionKill, EveryEffects: int64(small.Events) / 3, Jitter: 0.3},
		}},
		hooks: map[fault.Action]func(context.Context, fault.Step) error{
			killNode: func(ctx context.Context, _ fault.Step) error {
				one.Lock()
				defer one.Unlock()
				node = node%3 + 1
				if err := servers.KillNode(ctx, node); err != nil {
					return err
				}
				return servers.StartNode(ctx, node)
			},
			restart: func(ctx context.Context, _ fault.Step) error {
				one.Lock()
				defer one.Unlock()
				return servers.Restart(ctx, servers.Kafka, servers.Clean)
			},
		},
	}
	require.NoError(t, s.run(t, brokers).Err())
}
