package config_test

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework/config"
)

// Every setting is documented, and the default its comment states is the one
// that Default gives.
func TestEverySettingIsDocumented(t *testing.T) {
	seen := map[string]string{}
	for _, setting := range config.Settings() {
		require.Empty(t, seen[setting.Variable], "%s is the variable of two settings", setting.Variable)
		seen[setting.Variable] = setting.Path
		require.NotRegexp(t, `^[A-Z][A-Za-z]*[:,] `, setting.Doc, "the text is about the key, and prints its name")
		switch setting.Default {
		case "":
			require.Regexp(t, `Default(: .+| "")\.$`, setting.Doc, setting.Path)
		default:
			require.True(t, strings.HasSuffix(setting.Doc, "Default "+setting.Default+"."), "%s: default is %s, but: %s", setting.Path, setting.Default, setting.Doc)
		}
	}
	require.Equal(t, "kafka.tls.enabled", seen["HAPAX_KAFKA_TLS_ENABLED"])
}

func TestRulesTableNamesAreAccepted(t *testing.T) {
	for _, rule := range dedup.Rules {
		parse(t, "service: a", "HAPAX_BROKER="+rule.Broker, "HAPAX_DEDUP_STRATEGY="+rule.Strategy,
			"HAPAX_KAFKA_BROKERS=h:1", "HAPAX_RABBITMQ_URL=amqp://h", "HAPAX_REDIS_ADDRESSES=h:1")
	}
}

// A value that is not the default for every setting, and what else it needs.
func otherValue(setting config.Setting) (value string, also []string) {
	also = map[string][]string{
		"kafka.tls.cert_file":    {"HAPAX_KAFKA_TLS_KEY_FILE=k"},
		"kafka.tls.key_file":     {"HAPAX_KAFKA_TLS_CERT_FILE=c"},
		"rabbitmq.tls.cert_file": {"HAPAX_RABBITMQ_TLS_KEY_FILE=k"},
		"rabbitmq.tls.key_file":  {"HAPAX_RABBITMQ_TLS_CERT_FILE=c"},
		"redis.tls.cert_file":    {"HAPAX_REDIS_TLS_KEY_FILE=k"},
		"redis.tls.key_file":     {"HAPAX_REDIS_TLS_CERT_FILE=c"},
		"redis.master_name":      {"HAPAX_REDIS_MODE=sentinel"},
		"kafka.sasl.mechanism":   {"HAPAX_KAFKA_SASL_USERNAME=u", "HAPAX_KAFKA_SASL_PASSWORD=p"},
		"dedup.ledger.store":     {"HAPAX_REDIS_ADDRESSES=h:1"},
		"kafka.session_timeout":  {"HAPAX_KAFKA_TRANSACTION_TIMEOUT=1s"},
	}[setting.Path]
	if strings.HasPrefix(setting.Path, "kafka.sasl.") && setting.Path != "kafka.sasl.mechanism" {
		also = []string{"HAPAX_KAFKA_SASL_MECHANISM="}
	}
	if block, _, ok := strings.Cut(setting.Path, ".tls."); ok && !strings.HasSuffix(setting.Path, ".enabled") {
		also = append(also, "HAPAX_"+strings.ToUpper(block)+"_TLS_ENABLED=true")
	}
	if strings.HasPrefix(setting.Path, "sql.") && setting.Path != "sql.dsn" {
		also = append(also, "HAPAX_SQL_DSN=postgres://h/db")
	}
	special := map[string]string{
		"service": "other", "broker": "sqs", "allow": "kafka-min-isr", "topics": `{"a": {"name": "b"}}`, "handlers": `{"A": {"window": "1d"}}`,
		"dedup.strategy": "none", "dedup.claim": "pessimistic", "dedup.id.pointer": "/a", "dedup.ledger.store": "redis", "dedup.ledger.dsn": "postgres://h/db",
		"sql.dsn": "postgres://h/db", "rabbitmq.url": "amqp://h", "rabbitmq.readers": "shipments=dispatch.shipments", "sqs.endpoint": "http://h", "tracing.endpoint": "http://h", "kafka.brokers": "h:1,h:2", "redis.addresses": "h:1", "admin.address": "h:1",
		"kafka.sasl.mechanism": "plain", "kafka.session_timeout": "9s", "retry.max_interval": "9s", "kafka.transaction.max_time": "9ms", "sqs.wait_time": "9s",
		"retry.initial_interval": "9ms", "kafka.transaction.timeout": "9s", "redis.mode": "cluster",
	}
	if value, ok := special[setting.Path]; ok {
		return value, also
	}
	switch {
	case strings.HasPrefix(setting.Type, "one of"):
		for _, match := range regexp.MustCompile(`"([^"]*)"`).FindAllStringSubmatch(setting.Type, -1) {
			if match[1] != setting.Default {
				return match[1], also
			}
		}
	case setting.Type == "true or false":
		return fmt.Sprint(setting.Default != "true"), also
	case strings.HasPrefix(setting.Type, "a duration"):
		return "11s", also
	case strings.HasPrefix(setting.Type, "a size"):
		return "11KiB", also
	case setting.Path == "tracing.sample":
		return "0.5", also
	case strings.HasSuffix(setting.Type, "number"):
		return "11", also
	}
	return "other", also
}

func TestEverySettingHasAVariable(t *testing.T) {
	require.Greater(t, len(config.Settings()), 90)
	for _, setting := range config.Settings() {
		value, also := otherValue(setting)
		parsed := parse(t, "service: a", append(also, setting.Variable+"="+value)...)
		require.Equal(t, setting.Variable, parsed.Where(setting.Path))

		require.NotEqual(t, setting.Default, value, setting.Path)

		var out bytes.Buffer
		require.NoError(t, parsed.Render(&out))
		if setting.Secret && value == "other" {
			value = "***"
		}
		if setting.Path == "topics" || setting.Path == "handlers" {
			require.Contains(t, out.String(), "HAPAX_"+strings.ToUpper(setting.Path)+":1:")
			continue
		}
		key := setting.Path[strings.LastIndex(setting.Path, ".")+1:]
		line := regexp.MustCompile(`(?m)^ *` + key + `: .*# ` + setting.Variable + `$`).FindString(out.String())
		require.NotEmpty(t, line, "%s is not in effect", setting.Variable)
		line = strings.NewReplacer(`"`, "", "[", "", "]", "", ", ", ",").Replace(line)
		require.Contains(t, line, key+": "+value+"  #")
	}
}

// What Render prints reads back as the same configuration.
func requireReadsBack(t require.TestingT, parsed *config.Config) {
	var first, second bytes.Buffer
	require.NoError(t, parsed.Render(&first))
	text := first.String()
	again, err := config.Parse("again", first.Bytes(), nil)
	if err != nil && strings.Contains(text, "***") {
		return // a masked connection string may no longer be one
	}
	require.NoError(t, err, text)
	require.NoError(t, again.Render(&second))
	strip := regexp.MustCompile(`(?m)  # .*$`)
	require.Equal(t, strip.ReplaceAllString(text, ""), strip.ReplaceAllString(second.String(), ""))
}

func TestRenderReadsBackAndPassesTheSchema(t *testing.T) {
	schema := compile(t)
	settings := config.Settings()
	rapid.Check(t, func(t *rapid.T) {
		env := map[string]string{"HAPAX_SERVICE": "a"}
		for _, setting := range rapid.SliceOfNDistinct(rapid.SampledFrom(settings), 0, 20, func(s config.Setting) string { return s.Path }).Draw(t, "settings") {
			value, also := otherValue(setting)
			for _, pair := range append(also, setting.Variable+"="+value) {
				name, value, _ := strings.Cut(pair, "=")
				env[name] = value
			}
		}
		var pairs []string
		for name, value := range env {
			pairs = append(pairs, name+"="+value)
		}
		parsed, err := config.Parse("x", nil, pairs)
		if err != nil {
			t.Skip("settings that contradict each other")
		}
		requireReadsBack(t, parsed)
		var out bytes.Buffer
		require.NoError(t, parsed.Render(&out))
		require.NoError(t, validate(t, schema, out.String()))
	})
}

// uncomment turns every "#key: value" of the example into a setting.
func uncomment(example []byte) string {
	return regexp.MustCompile(`(?m)^( *)#(\S)`).ReplaceAllString(string(example), "$1$2")
}

func TestExample(t *testing.T) {
	example := config.Example()
	parsed := parse(t, string(example))
	made := config.Default()
	made.Service = "fulfilment"
	var got, want bytes.Buffer
	require.NoError(t, parsed.Render(&got))
	require.NoError(t, made.Render(&want))
	require.Equal(t, want.String(), regexp.MustCompile(`  # .*`).ReplaceAllString(got.String(), ""), "what is commented out is the default")

	// With everything commented in, every setting is there, and none is wrong
	// but for those that exclude each other.
	full := strings.NewReplacer("mode: single", "mode: sentinel", "    enabled: false", "    enabled: true").Replace(uncomment(example))
	parsed = parse(t, full, "KAFKA_PASSWORD=p", "KAFKA_TOKEN=t", "REDIS_PASSWORD=r", "SENTINEL_PASSWORD=s", "DATABASE_URL=postgres://h/db", "LEDGER_URL=redis://h")
	for _, setting := range config.Settings() {
		require.Contains(t, parsed.Where(setting.Path), "hapax.yaml:", setting.Path)
	}
	require.NoError(t, validate(t, compile(t), full))
	require.NoError(t, validate(t, compile(t), string(example)))
}

func compile(t require.TestingT) *jsonschema.Schema {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("hapax.json", document))
	schema, err := compiler.Compile("hapax.json")
	require.NoError(t, err)
	return schema
}

func validate(t require.TestingT, schema *jsonschema.Schema, file string) error {
	asJSON, err := yaml.YAMLToJSON([]byte(file))
	require.NoError(t, err)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	require.NoError(t, err)
	return schema.Validate(document)
}

func TestSchemaAgreesWithParse(t *testing.T) {
	schema := compile(t)
	for _, good := range []string{
		"service: a\nkafka:\nlog: {level: \"${LEVEL}\"}\nconsumer: {window: \"${N:-5}\"}\nkafka: {brokers: \"${B}\"}\n",
		"service: a\ndedup: {lease: 1m, in_flight_wait: 0, window: \"1w2d\"}\nsqlite: {max_payload: 4096}\n",
		"service: \"${NAME}\"\nadmin: {enabled: \"${ADMIN}\", address: \"${ADDRESS}\"}\n",
		"service: a\ntopics: {orders.created: {name: x}}\nhandlers: {A: {retry: {multiplier: 1.5}}, B: }\n",
	} {
		_, err := config.Parse("x", []byte(strings.Replace(good, "kafka:\n", "", 1)), []string{"LEVEL=warn", "N=3", "B=h:1", "NAME=a", "ADMIN=true", "ADDRESS=h:1"})
		require.NoError(t, err)
		require.NoError(t, validate(t, schema, strings.Replace(good, "kafka:\n", "", 1)))
	}
	for _, bad := range []string{
		"broker: sqlite", "service: A", "service: a\nbrokr: x", "service: a\nbroker: nats", "service: a\nkafka: {brokrs: []}", "service: 5", "service: a\nconsumer: {window: \"5\"}",
		"service: a\nconsumer: {window: 0}", "service: a\nconsumer: {window: 1.5}", "service: a\ndedup: {lease: 5}", "service: a\ndedup: {lease: \"5\"}", "service: a\ndedup: {lease: -1s}",
		"service: a\nsqlite: {max_payload: 16MB}", "service: a\nadmin: {enabled: 1}", "service: a\nallow: x", "service: a\nkafka: []", "service: a\nkafka: {brokers: [1]}",
		"service: a\nredis: {password: 5}", "service: a\ntopics: {a: {x: 1}}", "service: a\nhandlers: {A: {dedup: {}}}", "service: a\nsql: {inbox: {group_size: 100000}}", "service: a\nretry: {multiplier: 0.5}",
		"service: a\nlog: {level: warning}", "service: a\ndedup: {id: {pointer: x}}", "service: a\nkafka: {rack: null}",
	} {
		_, err := config.Parse("x", []byte(bad), nil)
		require.Error(t, err, bad)
		require.Error(t, validate(t, schema, bad), bad)
	}
}
