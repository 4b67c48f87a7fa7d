package redis

import (
	"context"
	"fmt"
	"time"

	"github.com/hapax-go/hapax/adapters"
)

// Checks implements adapters.Checker. Nothing can be wrong with a stream by itself;
// what matters is set for the server, and what Check has nothing to say about is
// listed here as in order.
func (b *Broker) Checks(ctx context.Context, _ []adapters.Use) (findings []adapters.Finding) {
	findings = append(findings, b.checkClock(ctx))
	info, err := b.client.Info(ctx).Result()
	if err != nil {
		return findings // Check says so
	}
	server := parseInfo(info)
	findings = append(findings, adapters.Finding{Name: "redis-version", Found: server["redis_version"]})
	if len(b.checkMemory(server)) == 0 {
		findings = append(findings, adapters.Finding{Name: "redis-eviction", Found: server["maxmemory_policy"]})
	}
	if len(b.checkPersistence(ctx, server)) == 0 {
		findings = append(findings, b.checkSync(ctx))
	}
	if b.config.Mode == Sentinel {
		findings = append(findings, b.checkReplicas(ctx))
	}
	return findings
}

func (b *Broker) checkClock(ctx context.Context) adapters.Finding {
	before := time.Now()
	server, err := b.client.Time(ctx).Result()
	if err != nil {
		return adapters.Finding{Name: "redis-clock", Problem: fmt.Sprintf("the server does not tell its time: %v", err), Fix: "allow the user TIME"}
	}
	return adapters.ClockFinding("redis-clock", "", before, server, time.Now())
}

// checkSync looks at how often the append-only file is written to the disk.
func (b *Broker) checkSync(ctx context.Context) adapters.Finding {
	sync, err := b.configValue(ctx, "appendfsync")
	finding := adapters.Finding{Name: "redis-persistence", Found: "append-only file, appendfsync " + sync}
	switch {
	case err != nil:
		finding.Found = "append-only file; how often it reaches the disk is not told"
	case sync == "no":
		finding.Found = ""
		finding.Problem = "appendfsync is no: with the machine up to half a minute of messages and marks is lost, and what was marked in it takes effect again"
		finding.Fix = "set appendfsync everysec, or always if not a second may be lost"
	}
	return finding
}

// checkReplicas looks at what a fail-over forgets.
func (b *Broker) checkReplicas(ctx context.Context) adapters.Finding {
	least, err := b.configValue(ctx, "min-replicas-to-write")
	finding := adapters.Finding{Name: "redis-min-replicas", Found: "min-replicas-to-write " + least}
	if err != nil || least == "0" || least == "" {
		finding.Found = ""
		finding.Problem = "min-replicas-to-write is 0: a master that lost its replicas goes on, and a fail-over then forgets all that it took meanwhile, marks included"
		finding.Fix = "set min-replicas-to-write 1 and min-replicas-max-lag 10 on every node"
	}
	return finding
}
