package config

// Kafka says how to reach Kafka.
type Kafka struct {
	// Brokers are addresses to start from, host:port; the others are found from
	// them. Required when broker is kafka. Default: none.
	Brokers []string `yaml:"brokers" format:"host:port" example:"127.0.0.1:9092"`
	// ClientID names this client in the brokers' logs and quotas. "": the
	// service's name. Default "".
	ClientID string `yaml:"client_id" example:"fulfilment-1"`
	// Rack lets the client fetch from a replica in the same rack or zone. "":
	// from the leader. Default "".
	Rack string `yaml:"rack" example:"eu-west-1a"`
	// TLS encrypts the connections.
	TLS TLS `yaml:"tls"`
	// SASL authenticates the client.
	SASL SASL `yaml:"sasl"`
	// Transaction says how many messages commit together.
	Transaction KafkaTransaction `yaml:"transaction"`
	// CreateTopics makes missing topics, with the brokers' own defaults for
	// partitions and replication. Default false.
	CreateTopics bool `yaml:"create_topics"`
	// SessionTimeout is how long a consumer may be silent before its partitions
	// go to another. Default 45s.
	SessionTimeout Duration `yaml:"session_timeout" min:"1s"`
	// IDLog is the topic of processed IDs that is written in each transaction.
	IDLog KafkaIDLog `yaml:"id_log"`
}

// SASL authenticates the client.
type SASL struct {
	// Mechanism of authentication. "": none. Default "".
	Mechanism string `yaml:"mechanism" enum:"|plain|scram-sha-256|scram-sha-512|oauthbearer" example:"scram-sha-512"`
	// Username for plain and scram. Default: none.
	Username string `yaml:"username" example:"fulfilment"`
	// Password for plain and scram. Default: none.
	Password Secret `yaml:"password" example:"${KAFKA_PASSWORD}"`
	// Token for oauthbearer. Default: none.
	Token Secret `yaml:"token" example:"${KAFKA_TOKEN}"`
}

// KafkaTransaction says how many messages commit together: a transaction closes
// at max_records or max_time, whichever comes first.
type KafkaTransaction struct {
	// MaxRecords closes a transaction after this many consumed records.
	// Default 500.
	MaxRecords int `yaml:"max_records" min:"1"`
	// MaxTime closes a transaction after this long; it is also about how long
	// an output may wait before others can read it. Default 50ms.
	MaxTime Duration `yaml:"max_time" min:"1ms"`
	// Timeout is when the broker aborts a transaction by itself. It must be
	// shorter than session_timeout, so that a lost consumer's transaction is
	// over before its partitions move. Default 40s.
	Timeout Duration `yaml:"timeout" min:"1s"`
}

// KafkaIDLog is the topic of processed IDs, one for each input topic. Its
// partitions follow the input's, and its retention is dedup.window.
type KafkaIDLog struct {
	// Replication is the topic's replication factor. -1: the broker's default.
	// Default -1.
	Replication int `yaml:"replication" min:"-1" max:"32767"`
}
