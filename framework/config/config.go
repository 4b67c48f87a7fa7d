package config

// Config is a whole hapax.yaml: defaults, then the file, then HAPAX_ variables,
// each overriding what came before.
type Config struct {
	// Service is the name under which events are processed once: marks and
	// consumer groups carry it, so a renamed service processes everything anew.
	// Small letters, digits, dash, underscore. A dot is possible, but a start refuses
	// it, unless allow names broker-group. Required. Default: none.
	Service string `yaml:"service" required:"true" pattern:"^[a-z0-9][a-z0-9._-]*$" example:"fulfilment"`
	// Broker carries the events; its block below says how to reach it. sqlite
	// is embedded and needs no server. Default sqlite.
	Broker string `yaml:"broker" enum:"$brokers"`

	// Topics says how single topics differ from the rule, by logical name.
	// Variable: the whole map as JSON. Default: none differs.
	Topics map[string]Topic `yaml:"topics" example:"orders.created"`
	// Handlers says how single handlers differ from the blocks below, by handler
	// name, which is that of the topic unless the code gives another. Variable: the
	// whole map as JSON. Default: none differs.
	Handlers map[string]Handler `yaml:"handlers" example:"orders"`

	// Consumer says how messages are handed to handlers.
	Consumer Consumer `yaml:"consumer"`
	// Retry says how often a failed handler runs again inside one delivery.
	Retry Retry `yaml:"retry"`
	// Dedup says how an event takes effect once.
	Dedup Dedup `yaml:"dedup"`
	// SQL is the service's own database. Setting its dsn turns on the inbox and
	// the outbox: marks, the handler's SQL and its outputs commit together.
	SQL SQL `yaml:"sql"`

	// SQLite is the embedded broker: one file.
	SQLite SQLite `yaml:"sqlite"`
	// Kafka is read when broker is kafka.
	Kafka Kafka `yaml:"kafka"`
	// RabbitMQ is read when broker is rabbitmq.
	RabbitMQ RabbitMQ `yaml:"rabbitmq"`
	// Redis is read when broker is redis, or when the ledger is kept there
	// without a dsn of its own.
	Redis Redis `yaml:"redis"`
	// SQS is read when broker is sqs or sqs-fifo. Credentials come from the AWS default
	// chain (environment, shared files, instance role), never from here.
	SQS SQS `yaml:"sqs"`

	// Admin is the HTTP server with /healthz, /readyz, /metrics and /duplicates, the
	// report that hapax duplicates shows.
	Admin Admin `yaml:"admin"`
	// Shutdown says how the service stops.
	Shutdown Shutdown `yaml:"shutdown"`
	// Tracing sends OpenTelemetry traces.
	Tracing Tracing `yaml:"tracing"`
	// Log says what is logged, to standard error.
	Log Log `yaml:"log"`
	// Allow lists start-up checks, by name, that may find something unsafe
	// without keeping the service from starting; hapax doctor shows the names.
	// Default: none.
	Allow []string `yaml:"allow" example:"kafka-min-isr"`

	// file names what was parsed; folder is where it lies, "" when that is the working
	// directory or there is none; origins maps a path to where it was set; empty maps
	// one to the variable that left it empty. They hold positions and names only, never
	// values: fmt prints unexported fields without asking a Secret to mask itself.
	file    string
	folder  string
	origins map[string]origin
	empty   map[string]string
}

// Admin is the HTTP server with /healthz, /readyz, /metrics and /duplicates.
type Admin struct {
	// Enabled starts the server; false: no health endpoints either. Default true.
	Enabled bool `yaml:"enabled"`
	// Address to listen on, host:port. It serves without authentication, so
	// anything but loopback needs a network that protects it; port 0 picks a
	// free one. Default 127.0.0.1:8086.
	Address string `yaml:"address" format:"host:port"`
}

// Shutdown says how the service stops.
type Shutdown struct {
	// DrainTimeout is how long handlers that are running at SIGTERM may still
	// take; what is not done by then is delivered again. 0: do not wait. The
	// outbox's relay, which stops after them, may take as long again, and 5s.
	// Default 30s.
	DrainTimeout Duration `yaml:"drain_timeout"`
}

// Log says what is logged.
type Log struct {
	// Level is the least severe level that is logged. Default info.
	Level string `yaml:"level" enum:"debug|info|warn|error"`
	// Format is text for people, json for machines. Default text.
	Format string `yaml:"format" enum:"text|json"`
}
