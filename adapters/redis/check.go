package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/hapax-go/hapax/adapters"
)

// Check implements adapters.Broker.
func (b *Broker) Check(ctx context.Context) []adapters.Finding {
	findings := b.checkLosses()
	info, err := b.client.Info(ctx).Result() // of any node of a cluster
	if err != nil {
		return append(findings, adapters.Finding{
			Name: "redis-info", Problem: fmt.Sprintf("INFO was refused, so neither version, persistence nor memory policy could be checked: %v", err),
			Fix: "allow the user INFO, or make sure yourself that the server is 6.2 or later, persistent, and evicts nothing",
		})
	}
	server := parseInfo(info)
	return append(append(append(findings, checkVersion(server)...), b.checkMemory(server)...), b.checkPersistence(ctx, server)...)
}

func checkVersion(server map[string]string) []adapters.Finding {
	parts := strings.SplitN(server["redis_version"]+".0.0", ".", 3)
	major, _ := strconv.Atoi(parts[0])
	minor, _ := strconv.Atoi(parts[1])
	if major > 6 || major == 6 && minor >= 2 {
		return nil
	}
	return []adapters.Finding{{
		Name: "redis-version", Fatal: true,
		Problem: fmt.Sprintf("the server is version %q, expected 6.2 or later: XPENDING has no IDLE before that, and dead consumers' entries would not be found", server["redis_version"]),
		Fix:     "upgrade the server",
	}}
}

func (b *Broker) checkMemory(server map[string]string) []adapters.Finding {
	policy := server["maxmemory_policy"]
	switch {
	case policy == "" || policy == "noeviction" || b.config.AllowEviction:
		return nil
	case strings.HasPrefix(policy, "allkeys-"):
		return []adapters.Finding{{
			Name: "redis-eviction", Fatal: true,
			Problem: fmt.Sprintf("maxmemory-policy is %s, expected noeviction: when memory is short the server evicts marks and streams, and what was evicted is lost or takes effect twice", policy),
			Fix:     "set maxmemory-policy noeviction on the server, or redis.allow_eviction: true if that is acceptable",
		}}
	default: // volatile-*: only keys with a TTL, which are leases
		return []adapters.Finding{{
			Name:    "redis-eviction",
			Problem: fmt.Sprintf("maxmemory-policy is %s: when memory is short the server may evict the leases of pessimistic claims, so that two workers run one event; marks and streams have no TTL and stay", policy),
			Fix:     "set maxmemory-policy noeviction on the server, or redis.allow_eviction: true if that is acceptable",
		}}
	}
}

func (b *Broker) checkPersistence(ctx context.Context, server map[string]string) []adapters.Finding {
	if server["aof_enabled"] == "1" {
		return nil
	}
	save, err := b.configValue(ctx, "save")
	if err != nil {
		return []adapters.Finding{{
			Name:    "redis-persistence",
			Problem: fmt.Sprintf("the append-only file is off, and CONFIG GET was refused, so it is not known whether there are snapshots: %v", err),
			Fix:     "set appendonly yes on the server: without it a restart loses messages and marks, and events may be lost or take effect twice",
		}}
	}
	problem := "the append-only file is off and there are no snapshots: a restart loses every message and every mark"
	if save != "" {
		problem = "the append-only file is off: a restart goes back to the last snapshot, so acknowledged messages come again without their marks, and newer ones are lost"
	}
	return []adapters.Finding{{Name: "redis-persistence", Fatal: true, Problem: problem, Fix: "set appendonly yes on the server, and appendfsync always if no message may be lost with a machine"}}
}

func (b *Broker) configValue(ctx context.Context, name string) (string, error) {
	values, err := b.client.ConfigGet(ctx, name).Result()
	return values[name], err
}

func (b *Broker) checkLosses() []adapters.Finding {
	lost := b.losses.Load()
	if lost == 0 {
		return nil
	}
	return []adapters.Finding{{
		Name:    "redis-loss",
		Problem: fmt.Sprintf("%d messages were trimmed or deleted from their streams before they were acknowledged; the log names them", lost),
		Fix:     "stop whoever trims (XTRIM, XADD MAXLEN, XDEL), and let Hapax do it: redis.trim keeps what is not acknowledged",
	}}
}

// parseInfo reads "name:value" lines.
func parseInfo(info string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
			values[name] = value
		}
	}
	return values
}

// isGone reports that a stream or group does not exist.
func isGone(err error) bool {
	return redis.HasErrorPrefix(err, "NOGROUP") || redis.HasErrorPrefix(err, "no such key")
}
