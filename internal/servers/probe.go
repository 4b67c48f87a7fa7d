package servers

import (
	"context"

	"github.com/hapax-go/hapax/internal/servers/probe"
)

// Probe asks the server once, in its own protocol, whether it serves, and
// returns the version it states ("" where the protocol has none).
func (a Address) Probe(ctx context.Context) (string, error) {
	switch a.Name {
	case Kafka:
		return probe.Kafka(ctx, a.Hosts, a.Origin != FromEnvironment)
	case RabbitMQ:
		return probe.RabbitMQ(ctx, a.URL)
	case Redis:
		return probe.Redis(ctx, a.URL)
	case SQS:
		return probe.SQS(ctx, a.URL)
	case Postgres:
		return probe.Postgres(ctx, a.URL)
	case MariaDB:
		return probe.MariaDB(ctx, a.URL)
	case RedisCluster:
		return probe.RedisCluster(ctx, a.Hosts)
	case RedisSentinel:
		return probe.RedisSentinel(ctx, a.Hosts, a.Master)
	default:
		return "", CheckName(a.Name)
	}
}
