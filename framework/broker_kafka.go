package framework

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/framework/config"
)

// openKafka maps the kafka block to the adapter's config.
func openKafka(ctx context.Context, cfg *config.Config, logger *slog.Logger) (adapters.Broker, error) {
	block := cfg.Kafka
	encryption, err := tlsConfig(cfg, block.TLS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Where("kafka.tls"), err)
	}
	client := block.ClientID
	if client == "" {
		client = cfg.Service
	}
	sasl := kafka.SASL{Mechanism: block.SASL.Mechanism, Username: block.SASL.Username, Password: block.SASL.Password.Reveal()}
	switch token := block.SASL.Token.Reveal(); {
	case token != "":
		sasl.Token = func(context.Context) (string, error) { return token, nil }
	case block.SASL.TokenFile != "":
		sasl.Token = func(context.Context) (string, error) {
			token, err := os.ReadFile(cfg.File(block.SASL.TokenFile))
			return strings.TrimSpace(string(token)), err
		}
	}
	// What the adapter is asked for has its name at the broker already. Kafka's naming
	// rule, and the name of another topic that is called so in the code, are not for it.
	names := map[string]string{}
	for _, name := range topicNamesOf(cfg) {
		names[name] = name
	}
	return kafka.Open(ctx, kafka.Config{
		Brokers:            block.Brokers,
		ClientID:           client,
		Rack:               block.Rack,
		TLS:                encryption,
		SASL:               sasl,
		MaxRecords:         block.Transaction.MaxRecords,
		MaxTime:            time.Duration(block.Transaction.MaxTime),
		TransactionTimeout: time.Duration(block.Transaction.Timeout),
		SessionTimeout:     time.Duration(block.SessionTimeout),
		RebalanceTimeout:   time.Duration(block.RebalanceTimeout),
		ServerSideGroups:   block.GroupProtocol == "consumer",
		Topics:             names,
		CreateTopics:       block.CreateTopics,
		Partitions:         int32(block.Partitions),
		Replication:        int16(block.Replication),
		IDLogReplication:   int16(block.IDLog.Replication),
		MaxIDMemory:        int64(block.IDLog.MaxMemory),
		MaxPayload:         int(block.MaxPayload),
		Logger:             logger,
	})
}
