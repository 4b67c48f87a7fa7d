package redis_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/servers"
)

func clusterURL(t *testing.T) string {
	hosts := servers.Require(t, servers.RedisCluster).Hosts
	return "redis://" + hosts[0] + "?mode=cluster&addr=" + strings.Join(hosts[1:], "&addr=")
}

// Scenario 1 in a cluster. With a common hash tag the commit is one step, as on one
// server. Without, the outputs live on another node: consumers that see through copies
// find each once.
func TestKilledConsumersInCluster(t *testing.T) {
	t.Parallel()
	for _, claim := range claims {
		for _, tagged := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, common tag: %t", claim, tagged), func(t *testing.T) {
				t.Parallel()
				s := scenario{
					server: clusterURL(t), claim: claim, consumers: 3, takes: time.Millisecond, plan: kills(200, 900),
					workload: fault.Workload{Seed: 12, Events: soaked(1200, 20_000), Keys: 64, Duplicates: 0.2}, absorbing: !tagged,
					failpoints: diesAtWork,
				}
				if s.in, s.out = newTopic(t), newTopic(t); tagged {
					s.in, s.out = "{"+s.in+"}.in", "{"+s.in+"}.out"
				}
				require.NoError(t, s.run(t).Err())
			})
		}
	}
}

// Killed between the publishing on one node and the commit on the other: the output is
// there twice, under one ID.
func TestKilledBetweenNodes(t *testing.T) {
	t.Parallel()
	for _, claim := range claims {
		s := scenario{
			server: clusterURL(t), claim: claim, consumers: 1, mild: true, absorbing: true, in: newTopic(t), out: newTopic(t),
			workload: fault.Workload{Seed: 13, Events: 100, Keys: 9, Duplicates: 0.4},
			failpoints: func(n int) string {
				if n > 2 {
					return ""
				}
				return fmt.Sprintf("%s@%d", failpoint.AfterPublish, 5*n)
			},
		}
		require.NoError(t, s.run(t).Err())
		config, err := redis.ParseURL(s.server)
		require.NoError(t, err)
		client, err := redis.Connect(t.Context(), config)
		require.NoError(t, err)
		raw, err := outputs(t.Context(), client, s.out, false)
		require.NoError(t, err)
		require.NoError(t, client.Close())
		require.Greater(t, len(raw), 100, "nothing was published twice, so the kills missed")
	}
}
