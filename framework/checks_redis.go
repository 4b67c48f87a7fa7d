package framework

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/framework/config"
)

// redisLedgerConfig is how a ledger on Redis is reached: at a server of its own, or at
// that of the redis block.
func redisLedgerConfig(cfg *config.Config, dsn config.DSN, logger *slog.Logger) (redis.Config, error) {
	connection, err := redisConfig(cfg, logger)
	if dsn == "" || err != nil {
		return connection, err
	}
	allow := connection.AllowEviction
	connection, err = redis.ParseURL(dsn.Reveal())
	connection.AllowEviction, connection.Logger = allow, logger
	return connection, err
}

// checkRedisLedger looks at a server that keeps marks only. What matters is the same
// as for a broker: marks that it evicts, or forgets in a restart, make their events
// take effect again.
func checkRedisLedger(ctx context.Context, cfg *config.Config, dsn config.DSN) []adapters.Finding {
	const about = "dedup.ledger"
	var server *redis.Broker
	connection, err := redisLedgerConfig(cfg, dsn, slog.New(slog.DiscardHandler))
	if err == nil {
		server, err = redis.Open(ctx, connection)
	}
	if err != nil {
		return []adapters.Finding{{
			Name: "ledger-connection", About: about, Fatal: true, Problem: fmt.Sprintf("%s: open redis ledger: %v", whereLedger(cfg), err), Fix: "start the server, or correct dedup.ledger",
		}}
	}
	findings := append(server.Check(ctx), server.Checks(ctx, nil)...)
	if err := server.Close(); err != nil {
		findings = append(findings, adapters.Finding{Name: "ledger-connection", Problem: err.Error(), Fix: "look at the server's log"})
	}
	for i := range findings {
		findings[i].About = strings.TrimSpace(about + " " + findings[i].About)
	}
	return findings
}
