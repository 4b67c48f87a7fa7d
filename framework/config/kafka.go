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
	// RebalanceTimeout is how long a consumer may take to hand over partitions:
	// handlers in flight get two thirds of it to finish. Default 1m.
	RebalanceTimeout Duration `yaml:"rebalance_timeout" min:"1s"`
	// GroupProtocol is how members share partitions: classic (cooperative-sticky)
	// works with all brokers; consumer is KIP-848's, for brokers from 4.0 on, with
	// the broker's own session timeout. Default classic.
	GroupProtocol string `yaml:"group_protocol" enum:"classic|consumer"`
	// Partitions are those of a topic that create_topics makes. -1: the broker's
	// default. Default -1.
	Partitions int `yaml:"partitions" min:"-1" max:"100000"`
	// Replication is the number of copies of a topic that create_topics makes. -1:
	// the broker's default. Default -1.
	Replication int `yaml:"replication" min:"-1" max:"32767"`
	// MaxPayload is the largest message, its metadata included; a larger output is
	// dead-lettered. It must not exceed the topics' max.message.bytes.
	// Default 1000000B.
	MaxPayload Size `yaml:"max_payload" min:"1KiB"`
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
	// TokenFile has the token for oauthbearer when token is not set; it is read
	// for each connection, so that a rotated token is taken up; relative to the folder
	// of hapax.yaml. Default: none.
	TokenFile string `yaml:"token_file" example:"/var/run/secrets/kafka/token"`
}

// KafkaTransaction says how many messages commit together: a transaction closes
// at max_records or max_time, whichever comes first.
type KafkaTransaction struct {
	// MaxRecords closes a transaction after this many consumed records.
	// Default 500.
	MaxRecords int `yaml:"max_records" min:"1" max:"1000000"`
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
	// MaxMemory bounds the memory for processed IDs; each takes less than 40
	// bytes. A window that needs more is an error when a consumer starts: nothing
	// is forgotten early. Default 1GiB.
	MaxMemory Size `yaml:"max_memory" min:"1KiB"`
}
