package config

import "time"

// Default returns the configuration of a service that sets nothing: the embedded
// broker. Only the service's name is missing.
func Default() *Config {
	return &Config{
		Broker: "sqlite",
		Consumer: Consumer{
			Window:          1000,
			Ordering:        "key",
			MaxDeliveries:   20,
			RedeliveryDelay: Duration(100 * time.Millisecond),
		},
		Retry: Retry{
			MaxAttempts:     5,
			InitialInterval: Duration(100 * time.Millisecond),
			MaxInterval:     Duration(10 * time.Second),
			Multiplier:      2,
		},
		Dedup: Dedup{
			Strategy:     "auto",
			Window:       Duration(7 * 24 * time.Hour),
			Conflict:     "quarantine",
			InFlightWait: Duration(5 * time.Second),
			Lease:        Duration(30 * time.Second),
			Ledger:       Ledger{Store: "auto"},
		},
		SQL: SQL{
			LockTimeout: Duration(5 * time.Second),
			Isolation:   "read-committed",
			Migrate:     "auto",
			IdleTimeout: Duration(30 * time.Second),
			Inbox:       Inbox{Table: "hapax_inbox", GroupSize: 128, Connections: 4},
			Outbox:      Outbox{Table: "hapax_outbox", Retention: Duration(24 * time.Hour), Relay: true, MaxAttempts: 10},
		},
		SQLite: SQLite{
			Path:        "hapax.db",
			Synchronous: "full",
			Lease:       Duration(30 * time.Second),
			Retention:   Duration(24 * time.Hour),
			MaxPayload:  16 << 20,
		},
		Kafka: Kafka{
			Transaction: KafkaTransaction{
				MaxRecords: 500,
				MaxTime:    Duration(50 * time.Millisecond),
				Timeout:    Duration(40 * time.Second),
			},
			SessionTimeout:   Duration(45 * time.Second),
			RebalanceTimeout: Duration(60 * time.Second),
			GroupProtocol:    "classic",
			Partitions:       -1,
			Replication:      -1,
			MaxPayload:       1_000_000,
			IDLog:            KafkaIDLog{Replication: -1, MaxMemory: 1 << 30},
		},
		RabbitMQ: RabbitMQ{
			QueueType:            "quorum",
			SingleActiveConsumer: true,
			PartitionBy:          "slots",
			ParkAfter:            Duration(10 * time.Second),
			ConsumerTimeout:      Duration(30 * time.Minute),
		},
		Redis: Redis{
			Mode:  "single",
			Lease: Duration(30 * time.Second),
		},
		SQS: SQS{
			VisibilityTimeout: Duration(30 * time.Second),
			WaitTime:          Duration(20 * time.Second),
			Workers:           4,
		},
		Admin:    Admin{Enabled: true, Address: "127.0.0.1:8086"},
		Shutdown: Shutdown{DrainTimeout: Duration(30 * time.Second)},
		Tracing:  Tracing{Sample: 1},
		Log:      Log{Level: "info", Format: "text"},
	}
}
