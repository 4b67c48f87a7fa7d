package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework/config"
)

// Each message word for word: they are part of the interface.
func TestErrors(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		env  []string
		want []string
	}{
		"unknown key": {
			file: "service: a\nbroker: kafka\nkafka:\n  brokrs: [\"a:1\"]\n",
			want: []string{`hapax.yaml:4:3: unknown key "brokrs" in kafka: did you mean "brokers"?`},
		},
		"a port that is none": {
			file: "service: orders\nadmin: {address: \"127.0.0.1:99999\"}\n",
			want: []string{`hapax.yaml:2:18: admin.address: found "127.0.0.1:99999", expected host:port such as 127.0.0.1:8086`},
		},
		"credentials in addresses that use none": {
			file: "service: a\nsqs: {endpoint: \"http://me:secret@h:9324\"}\ntracing: {endpoint: \"https://me:secret@h\"}\n",
			want: []string{
				`hapax.yaml:2:17: sqs.endpoint: has credentials, which nothing uses, and which a printed config would show: remove what stands before the @`,
				`hapax.yaml:3:21: tracing.endpoint: has credentials, which nothing uses, and which a printed config would show: remove what stands before the @`,
			},
		},
		"a handler that RabbitMQ would cut short": {
			file: "service: a\nbroker: rabbitmq\nrabbitmq: {url: \"amqp://h/\", consumer_timeout: 10m}\nconsumer: {handler_timeout: 5m}\n" +
				"handlers:\n  slow: {consumer: {handler_timeout: 10m}}\n  fast: {consumer: {handler_timeout: 9m}}\n",
			want: []string{`hapax.yaml:6:38: handlers.slow.consumer.handler_timeout: found 10m, expected less than rabbitmq.consumer_timeout (10m): the server would close the channel first`},
		},
		"unknown key of another block": {
			file: "service: a\nsynchronous: full\n",
			want: []string{`hapax.yaml:2:1: unknown key "synchronous": did you mean sqlite.synchronous?`},
		},
		"unknown key like no other": {
			file: "service: a\nlog: {colour: true}\n",
			want: []string{`hapax.yaml:2:7: unknown key "colour" in log: expected one of level, format`},
		},
		"misspelt required key is reported once": {
			file: "servce: a\n",
			want: []string{`hapax.yaml:1:1: unknown key "servce": did you mean "service"?`},
		},
		"duplicate key": {
			file: "service: a\nlog:\n  level: info\n  level: warn\n",
			want: []string{`hapax.yaml:4:3: key "level" is there twice in log: it was set on line 3 already; remove one`},
		},
		"nothing set": {
			want: []string{`hapax.yaml: service: not set, expected a value: add "service: fulfilment" or set HAPAX_SERVICE`},
		},
		"wrong types, sorted by line": {
			file: "service: 5\nconsumer:\n  window: \"5\"\n  ordering: 3\nretry: 7\ndedup: {window: 5, lease: soon}\nsqlite: {max_payload: 16MB}\nadmin: {enabled: yes}\nallow: x\nretention: [1]\nkafka: {brokers: [{a: 1}], rack: ~}\n",
			want: []string{
				`hapax.yaml:1:10: service: found a number, expected a string: put it in quotes`,
				`hapax.yaml:3:11: consumer.window: found "5" in quotes, expected a whole number: remove the quotes`,
				`hapax.yaml:4:13: consumer.ordering: found a number, expected one of "key", "partition", "none"`,
				`hapax.yaml:5:8: retry: found a number, expected keys`,
				`hapax.yaml:6:17: dedup.window: found "5", expected a duration such as 30s, 1h30m or 7d: add a unit, such as 5s`,
				`hapax.yaml:6:27: dedup.lease: found "soon", expected a duration such as 30s, 1h30m or 7d`,
				`hapax.yaml:7:23: sqlite.max_payload: found "16MB", expected a size such as 16MiB: units are B, KiB, MiB, GiB and TiB`,
				`hapax.yaml:8:18: admin.enabled: found "yes", expected true or false`,
				`hapax.yaml:9:8: allow: found a string, expected a list such as ["kafka-min-isr"]`,
				`hapax.yaml:10:1: unknown key "retention": did you mean sql.outbox.retention or sqlite.retention?`,
				`hapax.yaml:11:19: kafka.brokers: found keys in the list, expected a list of host:port such as ["127.0.0.1:9092"]`,
				`hapax.yaml:11:28: kafka.rack: found nothing, expected a string`,
			},
		},
		"own rules": {
			file: "service: Orders\nbroker: kafak\nconsumer: {window: 0}\ndedup: {lease: 1ms, id: {pointer: order/id}}\nsqs: {wait_time: 21s}\nadmin: {address: foo}\nsql: {dsn: \"file:x.db\", outbox: {table: \"x; drop\"}}\n",
			want: []string{
				`hapax.yaml:1:10: service: found "Orders", expected a string that matches ^[a-z0-9][a-z0-9._-]*$`,
				`hapax.yaml:2:9: broker: found "kafak", expected one of "kafka", "rabbitmq", "redis", "sqlite", "sqs", "sqs-fifo": did you mean "kafka"?`,
				`hapax.yaml:3:20: consumer.window: found "0", expected at least 1`,
				`hapax.yaml:4:16: dedup.lease: found "1ms", expected at least 100ms`,
				`hapax.yaml:4:35: dedup.id.pointer: found "order/id", expected a string that matches ^(/([^~/]|~[01])*)*$`,
				`hapax.yaml:5:18: sqs.wait_time: found "21s", expected at most 20s`,
				`hapax.yaml:6:18: admin.address: found "foo", expected host:port such as 127.0.0.1:8086`,
				`hapax.yaml:7:41: sql.outbox.table: found "x; drop", expected a string that matches ^[a-z_][a-z0-9_]{0,47}$`,
			},
		},
		"more than there is memory for": {
			file: "service: a\nconsumer: {window: 2147483648}\nkafka: {transaction: {max_records: 9223372036854775807}}\nhandlers: {orders: {consumer: {window: 1000001}}}\n",
			want: []string{
				`hapax.yaml:2:20: consumer.window: found "2147483648", expected at most 1000000`,
				`hapax.yaml:3:36: kafka.transaction.max_records: found "9223372036854775807", expected at most 1000000`,
				`hapax.yaml:4:40: handlers.orders.consumer.window: found "1000001", expected at most 1000000`,
			},
		},
		"numbers that are none": {
			file: "service: a\nretry: {multiplier: .inf}\ntracing: {sample: .nan}\n",
			want: []string{`hapax.yaml:2:21: retry.multiplier: found infinity, expected a number`, `hapax.yaml:3:19: tracing.sample: found NaN, expected a number`},
		},
		"a database that is none": {
			file: "service: a\nsql: {dsn: hunter2}\n",
			want: []string{`hapax.yaml:2:12: sql.dsn: found another form, expected a connection string such as postgres://user:password@host/db, user:password@tcp(host:3306)/db or file:orders.db`},
		},
		"readers that are no groups": {
			file: "service: a\nrabbitmq: {readers: [\"shipments=dispatch\"]}\n",
			want: []string{`hapax.yaml:2:21: rabbitmq.readers: found "shipments=dispatch", expected TOPIC=SERVICE.HANDLER, such as shipments=dispatch.shipments`},
		},
		"incomplete broker": {
			file: "service: a\nbroker: kafka\n",
			want: []string{`hapax.yaml:2:9: kafka.brokers: not set, but broker is kafka: add brokers: ["127.0.0.1:9092"] or set HAPAX_KAFKA_BROKERS`},
		},
		"broker chosen by a variable": {
			file: "service: a\n", env: []string{"HAPAX_BROKER=redis"},
			want: []string{`HAPAX_BROKER: redis.addresses: not set, but broker is redis: add addresses: ["127.0.0.1:6379"] or set HAPAX_REDIS_ADDRESSES`},
		},
		"contradictions": {
			file: "service: a\nkafka:\n  session_timeout: 10s\n  sasl: {username: u}\n  tls: {ca_file: ca.pem}\nredis: {mode: sentinel}\nrabbitmq: {url: \"http://u:hunter2@h/\"}\nsql: {lock_timeout: 1s}\nretry: {max_interval: 1ms}\ndedup: {strategy: transaction, ledger: {store: memory}}\ntopics: {a: {name: q}, b: {name: q, dead_letter: b}}\nhandlers: {H: {strategy: consumer, claim: optimistic}}\n",
			want: []string{
				`hapax.yaml:3:20: kafka.transaction.timeout: found 40s, expected less than kafka.session_timeout (10s): a lost consumer's transaction must end before its partitions move`,
				`hapax.yaml:4:20: kafka.sasl.mechanism: not set, but kafka.sasl has credentials: add mechanism: scram-sha-512, or what the brokers use`,
				`hapax.yaml:5:18: kafka.tls.enabled: not set, so nothing else in kafka.tls has an effect: set enabled: true or remove the rest`,
				`hapax.yaml:6:15: redis.master_name: not set, but mode sentinel needs it`,
				`hapax.yaml:7:17: rabbitmq.url: found another scheme, expected a URL such as amqp://user:password@host:5672/vhost`,
				`hapax.yaml:8:1: sql.dsn: not set, so nothing else in sql has an effect: add dsn: "${DATABASE_URL}" or remove the block`,
				`hapax.yaml:9:23: retry.max_interval: found 1ms, expected at least initial_interval (100ms)`,
				`hapax.yaml:10:19: dedup.strategy: found "transaction", which broker sqlite does not have: use auto, which is inbox here`,
				`hapax.yaml:10:48: dedup.ledger.store: found "memory", which forgets when the process ends: use another store, or set dedup.allow_volatile: true`,
				`hapax.yaml:11:34: topics.b.name: found "q", which is the name of topic "a" already: two topics cannot share one`,
				`hapax.yaml:11:50: topics.b.dead_letter: found the topic itself, expected another: its dead letters would be processed again`,
				`hapax.yaml:12:43: handlers.H.claim: found "optimistic", but strategy consumer supports only pessimistic`,
			},
		},
		"dead letters in a circle": {
			file: "service: a\ntopics:\n  a: {dead_letter: b}\n  b: {dead_letter: c}\n  c: {dead_letter: b}\n  d: {dead_letter: e}\n",
			want: []string{
				`hapax.yaml:4:20: topics.b.dead_letter: leads back to the topic (b, c, b): dead letters would be processed again, without an end`,
			},
		},
		"dead letters in a circle by default": {
			file: "service: a\ntopics:\n  a.dead: {dead_letter: a}\n  b: {name: other}\n  b.dead.dead: {dead_letter: b}\n  c: {dead_letter: d}\n",
			want: []string{
				`hapax.yaml:3:25: topics["a.dead"].dead_letter: leads back to the topic (a.dead, a, a.dead): dead letters would be processed again, without an end`,
				`hapax.yaml:5:30: topics["b.dead.dead"].dead_letter: leads back to the topic (b.dead.dead, b, b.dead, b.dead.dead): dead letters would be processed again, without an end`,
			},
		},
		"a topic under the name of another": {
			file: "service: a\ntopics:\n  orders: {dead_letter: failed}\n  failed: {name: orders}\n  x: {name: y}\n  y: {name: x}\n",
			want: []string{
				`hapax.yaml:4:18: topics.failed.name: found "orders", which is the name of topic "orders" already: two topics cannot share one`,
			},
		},
		"checks that cannot be allowed": {
			file: "service: a\nallow: [sql-connection]\n",
			want: []string{`hapax.yaml:2:8: allow: found "sql-connection", but no service can start without what that check looks for: remove it`},
		},
		"checks that do not exist": {
			file: "service: a\nallow: [kafka-min-irs, redis-eviction, everything]\n",
			want: []string{
				`hapax.yaml:2:8: allow: found "kafka-min-irs", which is no check: did you mean "kafka-min-isr"?`,
				`hapax.yaml:2:8: allow: found "everything", which is no check: hapax doctor lists those that the config is subject to`,
			},
		},
		"inbox without a database": {
			file: "service: a\nbroker: sqs\ndedup: {strategy: inbox}\n",
			want: []string{`hapax.yaml:3:19: dedup.strategy: found "inbox", which broker sqs does not have: set sql.dsn, or use auto`},
		},
		"references": {
			file: "service: a\nsql:\n  dsn: \"${DATABASE_URL}\"\nlog: {level: \"${LEVEL}\"}\nconsumer: {window: \"${WINDOW}\"}\nkafka: {rack: \"${\"}\n",
			env:  []string{"LEVEL=loud", "WINDOW=many"},
			want: []string{
				`hapax.yaml:3:8: sql.dsn: variable DATABASE_URL is not set: set it, or write ${DATABASE_URL:-default}`,
				`hapax.yaml:4:14: log.level: found "loud", expected one of "debug", "info", "warn", "error"`,
				`hapax.yaml:5:20: consumer.window: found "many" from "${WINDOW}", expected a whole number`,
				`hapax.yaml:6:15: kafka.rack: found ${ without a name and }, expected ${NAME} or ${NAME:-default}: write $${ for a plain ${`,
			},
		},
		// A default ends at the first }, so the second one would be part of the value,
		// whether or not the default is used.
		"references in a default": {
			file: "service: a\nkafka:\n  rack: \"${A:-${B}}\"\n  client_id: \"x-${SET:-y${B:-z}}\"\nredis: {password: \"${A:-hunter2$${x}\"}\nlog: {level: \"${LEVEL:-${B}}\"}\n",
			env:  []string{"B=b", "SET=s", "LEVEL=warn"},
			want: []string{
				`hapax.yaml:3:9: kafka.rack: found ${ in the default of ${A:-…}, expected plain text, because a default ends at the first }: write it out, or set A where the service is started`,
				`hapax.yaml:4:14: kafka.client_id: found ${ in the default of ${SET:-…}, expected plain text, because a default ends at the first }: write it out, or set SET where the service is started`,
				`hapax.yaml:5:19: redis.password: found ${ in the default of ${A:-…}, expected plain text, because a default ends at the first }: write it out, or set A where the service is started`,
				`hapax.yaml:6:14: log.level: found ${ in the default of ${LEVEL:-…}, expected plain text, because a default ends at the first }: write it out, or set LEVEL where the service is started`,
			},
		},
		"references that are empty": {
			file: "service: a\nbroker: rabbitmq\nsql: {dsn: \"${DATABASE_URL}\"}\nrabbitmq:\n  url: \"${A:-}${B}\"\ndedup:\n  strategy: inbox\n  ledger: {dsn: \"${LEDGER_URL}\"}\n" +
				"kafka: {sasl: {mechanism: plain, username: \"${KAFKA_USER}\", password: \"${KAFKA_PASSWORD}\"}}\n",
			env: []string{"DATABASE_URL=", "B=", "LEDGER_URL=", "KAFKA_USER=", "KAFKA_PASSWORD="},
			want: []string{
				`hapax.yaml:3:12: sql.dsn: variable DATABASE_URL is empty, expected a connection string: set it, or write ${DATABASE_URL:-} for no database`,
				`hapax.yaml:5:8: rabbitmq.url: variable B is empty, but broker is rabbitmq: set it`,
				`hapax.yaml:8:17: dedup.ledger.dsn: variable LEDGER_URL is empty, expected a connection string: set it, or write ${LEDGER_URL:-} for a ledger in the sql block's database, the redis block or sqlite.path`,
				`hapax.yaml:9:44: kafka.sasl.username: variable KAFKA_USER is empty, but mechanism plain needs it: set it`,
				`hapax.yaml:9:71: kafka.sasl.password: variable KAFKA_PASSWORD is empty, but mechanism plain needs it: set it`,
			},
		},
		"a list from a variable that is empty": {
			file: "service: a\nbroker: kafka\nkafka: {brokers: \"${BROKERS}\"}\n", env: []string{"BROKERS="},
			want: []string{`hapax.yaml:3:18: kafka.brokers: variable BROKERS is empty, but broker is kafka: set it`},
		},
		"variables, after the file": {
			file: "service: a\nlogg: {}\n",
			env:  []string{"HAPAX_DEDUP_WINDW=1d", "HAPAX_X=1", "HAPAX_CONSUMER_WINDOW=", "HAPAX_ADMIN_ENABLED=1", `HAPAX_TOPICS={"a":{"nam":"b"}}`, "HAPAX_HANDLERS={"},
			want: []string{
				`hapax.yaml:2:1: unknown key "logg": did you mean "log"?`,
				`HAPAX_ADMIN_ENABLED: admin.enabled: found "1", expected true or false`,
				`HAPAX_CONSUMER_WINDOW: consumer.window: found "", expected a whole number`,
				`HAPAX_DEDUP_WINDW: unknown variable: did you mean HAPAX_DEDUP_WINDOW?`,
				`HAPAX_HANDLERS: handlers: not YAML: could not find flow mapping end token '}': expected JSON such as {"orders": {}}`,
				`HAPAX_TOPICS:1:7: unknown key "nam" in topics.a: did you mean "name"?`,
				`HAPAX_X: unknown variable: a setting's variable is HAPAX_ and its path in capitals, joined by _; name variables of your own differently`,
			},
		},
		"empty map":         {file: "service: a\n", env: []string{"HAPAX_TOPICS="}, want: []string{`HAPAX_TOPICS: topics: found nothing, expected JSON such as {"orders.created": {}}, or {} for none`}},
		"not YAML":          {file: "service: a\nlog: [\n", want: []string{`hapax.yaml:2:6: not YAML: sequence end token ']' not found`}},
		"tab":               {file: "service: a\n\tlog: x\n", want: []string{"hapax.yaml:2:1: not YAML: found character '\t' that cannot start any token: indent with spaces"}},
		"reference in flow": {file: "kafka: {rack: ${RACK}}", want: []string{`hapax.yaml:1:16: not YAML: ',' or '}' must be specified: inside { } and [ ], put quotes around ${…}`}},
		"a list":            {file: "- a\n", want: []string{`hapax.yaml:1:1: found a list, expected keys such as "service: fulfilment"`}},
		"two documents":     {file: "service: a\n---\nservice: b\n", want: []string{`hapax.yaml:3:1: found a second YAML document, expected one: remove the --- before it`}},
		"anchor":            {file: "service: &a x\nlog: *a\n", want: []string{`hapax.yaml:1:10: service: found a YAML anchor, alias or tag (write the value out), expected a string`, `hapax.yaml:2:6: log: found a YAML anchor, alias or tag (write the value out), expected keys`}},
		"not UTF-8":         {file: "service: a\nbroker: \xff\n", want: []string{`hapax.yaml:2:1: not UTF-8: save the file as UTF-8`}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := config.Parse("hapax.yaml", []byte(c.file), c.env)
			require.Nil(t, got)
			require.Error(t, err)
			require.Equal(t, strings.Join(c.want, "\n"), err.Error())
			var problem *config.Problem
			require.True(t, errors.As(err, &problem))
		})
	}
}

// Variables of Hapax's own tests and tools are no settings, and no service minds them:
// every name that the sources have is a setting's or reserved.
func TestReservedVariables(t *testing.T) {
	known := map[string]bool{}
	for _, setting := range config.Settings() {
		known[setting.Variable] = true
	}
	var environ []string
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.Contains(path, "/config/") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, match := range regexp.MustCompile(`"(HAPAX_[A-Z0-9_]+)["=]`).FindAllStringSubmatch(string(source), -1) {
			if name := match[1]; !known[name] && name != "HAPAX_ADMIN_" { // a prefix of settings
				environ = append(environ, name+"=x")
			}
		}
		return err
	})
	require.NoError(t, err)
	require.Contains(t, environ, "HAPAX_SOAK_ROWS=x")
	environ = append(environ, "HAPAX_SERVERS_REPORT=x", "HAPAX_PORT_KAFKA=x")
	parse(t, "service: a\n", environ...)
}

// The list of checks is that of the sources.
func TestChecksAreListed(t *testing.T) {
	found := []string{"strategy"}
	for _, pattern := range []string{"../check*.go", "../../adapters/*/check*.go", "../../adapters/rabbitmq/topology.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			source, err := os.ReadFile(file)
			require.NoError(t, err)
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, match := range regexp.MustCompile(`"((?:broker|dedup|kafka|ledger|rabbitmq|redis|sql|sqlite|sqs)(?:-[a-z]+)+)"`).FindAllStringSubmatch(string(source), -1) {
				found = append(found, match[1])
			}
		}
	}
	slices.Sort(found)
	require.Equal(t, slices.Compact(found), config.Checks)
}

// Names that only the service can judge.
func TestUnusedNames(t *testing.T) {
	parsed := parse(t, "service: a\nhandlers:\n  ordrs: {window: 2d}\n  audit: {}\n  unlike: {}\ntopics: {ordrs: {name: b}, shipments: {name: c}}\n")
	require.EqualError(t, parsed.CheckHandlers([]string{"orders", "audit"}), strings.Join([]string{
		`hapax.yaml:3:3: handlers.ordrs: no handler has this name, so the block has no effect: did you mean "orders"?`,
		`hapax.yaml:5:3: handlers.unlike: no handler has this name, so the block has no effect: rename it to one of audit, orders, or remove it`,
	}, "\n"))
	require.NoError(t, parsed.CheckHandlers([]string{"ordrs", "audit", "unlike"}))
	topics := parsed.UnusedTopics([]string{"orders", "shipments"})
	require.Len(t, topics, 1)
	require.Equal(t, `hapax.yaml:6:10: topics.ordrs: no handler reads this topic or names it in To: did you mean "orders"?`, topics[0].Error())
}

func TestLoad(t *testing.T) {
	t.Chdir(t.TempDir())
	env := []string{"HAPAX_SERVICE=a"}

	// Nobody asked for a file, so there need not be one.
	loaded, err := config.Load("", env)
	require.NoError(t, err)
	require.Equal(t, "sqlite", loaded.Broker)
	require.Equal(t, "HAPAX_SERVICE", loaded.Where("service"))
	require.Equal(t, "default", loaded.Where("broker"))

	// Without one, and without what must be set, that is the likely mistake.
	_, err = config.Load("", nil)
	folder, wd := os.Getwd()
	require.NoError(t, wd)
	require.EqualError(t, err, "no hapax.yaml in "+folder+": run this in the service's folder, or name it with --file or HAPAX_CONFIG\n"+
		`hapax.yaml: service: not set, expected a value: add "service: fulfilment" or set HAPAX_SERVICE`)

	_, err = config.Load("other.yaml", env)
	require.EqualError(t, err, "read config: open other.yaml: no such file or directory")
	_, err = config.Load("", append(env, "HAPAX_CONFIG=other.yaml"))
	require.EqualError(t, err, "read config: open other.yaml: no such file or directory")

	require.NoError(t, os.WriteFile("other.yaml", []byte(" \n"), 0o600))
	_, err = config.Load("other.yaml", env)
	require.EqualError(t, err, `read config: other.yaml is empty, expected at least the line "service: fulfilment"`)

	require.NoError(t, os.WriteFile("hapax.yaml", []byte("\ufeffservice: b\r\nbroker: sqlite\r\n"), 0o600))
	loaded, err = config.Load("", nil)
	require.NoError(t, err)
	require.Equal(t, "b", loaded.Service)
	require.Equal(t, "hapax.yaml:2:9", loaded.Where("broker"))

	big := filepath.Join(t.TempDir(), "big.yaml")
	require.NoError(t, os.WriteFile(big, make([]byte, 300<<10), 0o600))
	_, err = config.Load(big, nil)
	require.EqualError(t, err, "read config: "+big+" has 307200 bytes, expected at most 262144")
}

func TestValidateOfCodeMadeConfig(t *testing.T) {
	made := config.Default()
	require.EqualError(t, made.Validate(), `service: not set, expected a value: add "service: fulfilment" or set HAPAX_SERVICE`)
	made.Service = "a"
	require.NoError(t, made.Validate())
	made.Consumer.Window = 0
	made.Handlers = map[string]config.Handler{"H": made.Handler("H")}
	require.EqualError(t, made.Validate(), `consumer.window: found "0", expected at least 1`)
}
