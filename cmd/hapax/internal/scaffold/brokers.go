package scaffold

// setting is a key of hapax.yaml with its value, in YAML.
type setting struct{ path, value string }

// broker is what a service has to know of a broker, beside the rules table.
type broker struct {
	// profile is the broker's profile in compose.yaml; "" when there is none to
	// start.
	profile string
	// environment is what a local run needs beside hapax.yaml, as make has it.
	environment []string
	// local are the settings that reach compose.yaml's server.
	local []setting
	// cluster is the broker's block in Kubernetes.
	cluster string
	// sharesLedger: its strategy keeps marks in a ledger, which replicas share.
	sharesLedger bool
}

// sqsLocal reaches the emulator in compose.yaml. It knows no credentials, but the
// AWS client insists on some.
var (
	sqsLocal       = []setting{{"sqs.region", "eu-west-1"}, {"sqs.endpoint", `"http://127.0.0.1:9324"`}, {"sqs.create", "true"}}
	sqsEnvironment = []string{"AWS_ACCESS_KEY_ID ?= local", "AWS_SECRET_ACCESS_KEY ?= local"}
	sqsCluster     = "sqs:\n  region: eu-west-1\n"
)

// reader is who is to read what the service publishes. Nobody does in a new project;
// RabbitMQ would have no queue to keep it in.
const reader = "shipments=dispatch.shipments"

var brokers = map[string]broker{
	"sqlite": {
		cluster: "sqlite:\n  path: /data/hapax.db\n",
	},
	"kafka": {
		profile: "kafka",
		local:   []setting{{"kafka.brokers", `["127.0.0.1:9092"]`}, {"kafka.create_topics", "true"}},
		cluster: "kafka:\n  brokers: [\"kafka-bootstrap.kafka.svc:9092\"]\n",
	},
	"rabbitmq": {
		profile:      "rabbitmq",
		local:        []setting{{"rabbitmq.url", `"amqp://guest:guest@127.0.0.1:5672/"`}},
		cluster:      "rabbitmq:\n  url: \"${RABBITMQ_URL}\" # from the Secret\n  readers: [\"" + reader + "\"] # keeps shipments until service dispatch first starts\n",
		sharesLedger: true,
	},
	"redis": {
		profile: "redis",
		local:   []setting{{"redis.addresses", `["127.0.0.1:6379"]`}},
		cluster: "redis:\n  addresses: [\"redis.redis.svc:6379\"]\n  password: \"${REDIS_PASSWORD:-}\" # from the Secret\n",
	},
	"sqs": {
		profile: "sqs", environment: sqsEnvironment, local: sqsLocal, cluster: sqsCluster, sharesLedger: true,
	},
	"sqs-fifo": {
		profile: "sqs", environment: sqsEnvironment, local: sqsLocal, cluster: sqsCluster, sharesLedger: true,
	},
}

// database is what a service has to know of its own database.
type database struct {
	// profile is the database's profile in compose.yaml; "" when there is none to
	// start.
	profile string
	// local is the connection string of compose.yaml's server.
	local string
	// cluster is the connection string in Kubernetes.
	cluster string
	// placeholders are those of two arguments.
	placeholders string
}

var databases = map[string]database{
	"none": {},
	"postgres": {
		profile: "postgres", local: "${DATABASE_URL:-postgres://hapax:hapax@127.0.0.1:5432/hapax?sslmode=disable}",
		cluster: "${DATABASE_URL}", placeholders: "$1, $2",
	},
	"mysql": {
		profile: "mariadb", local: "${DATABASE_URL:-hapax:hapax@tcp(127.0.0.1:3306)/hapax}",
		cluster: "${DATABASE_URL}", placeholders: "?, ?",
	},
	// The embedded broker's own file: there everything commits together.
	"sqlite": {local: "file:hapax.db", cluster: "file:/data/hapax.db", placeholders: "?, ?"},
}

// NeedsServers reports whether a service needs anything started before it runs.
func NeedsServers(o Options) bool {
	return brokers[o.Broker].profile != "" || databases[o.SQL].profile != ""
}
