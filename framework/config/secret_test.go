package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hapax-go/hapax/framework/config"
)

const secrets = `
service: a
kafka: { sasl: { mechanism: plain, username: u, password: hunter2, token: hunter2 } }
rabbitmq: { url: "amqp://u:hunter2@h:5672/" }
redis: { password: 'hunter2' }
sql: { dsn: "postgres://u:hunter2@h/db?sslmode=disable" }
dedup: { ledger: { dsn: "u:hunter2@tcp(h:3306)/db" } }
`

func TestSecretsNeverPrint(t *testing.T) {
	parsed := parse(t, secrets)
	require.Equal(t, "hunter2", parsed.Kafka.SASL.Password.Reveal())

	var out bytes.Buffer
	require.NoError(t, parsed.Render(&out))
	for _, value := range []any{parsed, *parsed, parsed.Kafka, parsed.SQL, parsed.SQL.DSN, parsed.Redis.Password, []any{parsed.RabbitMQ.URL}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x"} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
		asJSON, err := json.Marshal(value)
		require.NoError(t, err)
		asYAML, err := yaml.Marshal(value)
		require.NoError(t, err)
		out.Write(asJSON)
		out.Write(asYAML)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "value", value)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "value", value)
	}
	requireNoSecret(t, out.String())
	require.Contains(t, out.String(), "postgres://u:***@h/db?sslmode=disable", "only the password is masked")
	require.Contains(t, out.String(), "amqp://u:***@h:5672/")
	require.Contains(t, out.String(), "u:***@tcp(h:3306)/db")
}

func requireNoSecret(t *testing.T, text string) {
	t.Helper()
	for _, form := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2"), fmt.Sprintf("% x", "hunter2"), "aHVudGVyMg"} {
		require.NotContains(t, text, form)
	}
}

func TestErrorsHoldNoSecret(t *testing.T) {
	for _, file := range []string{
		"redis: {pasword: hunter2}",
		"redis: {password: [hunter2]}",
		"redis: {password: hunter2: x}",
		"redis:\n  password: |hunter2\n",
		"redis:\n  password: 'hunter2\n",
		"redis:\n  password: \"hunter2\\q\"\n",
		"redis: {password: hunter2, x: y",
		"redis: {password: !hunter2 x}",
		"redis: {password: &hunter2 x}",
		"redis: {password: *hunter2}",
		"rabbitmq: {url: \"http://u:hunter2@h\"}",
		"sql: {dsn: \"oracle://u:hunter2@h\"}",
		"sql: {dsn: hunter2}",
		"dedup: {ledger: {dsn: \"weird hunter2\"}}",
		"dedup: {ledger: {store: redis, dsn: \"postgres://u:hunter2@h/db\"}}",
		"redis: {password: a}\nredis: {password: hunter2}",
		"kafka: {sasl: {password: \"hunter2${\"}}",
		"kafka: {sasl: {password: hunter2}}",
		// A URL where an address is expected.
		"service: a\nbroker: redis\nredis: {addresses: [\"redis://u:hunter2@h:6379\"]}",
		"service: a\nbroker: redis\nredis: {addresses: [\"hunter2@h:6379\"]}",
		"service: a\nkafka: {brokers: [\"u:hunter2@h:9092\"]}",
		"service: a\nadmin: {address: \"http://u:hunter2@h\"}",
		"service: a\nbroker: redis://u:hunter2@h",
		"service: a\ntracing: {endpoint: \"http://u:hunter2@h/v1\"}",
		"service: a\ntracing: {endpoint: \"http://h:4318/?api_key=hunter2\"}",
		"service: a\nretry: {max_attempts: \"u:hunter2@${HOST:-h}\"}",
	} {
		_, err := config.Parse("hapax.yaml", []byte(file), nil)
		require.Error(t, err, file)
		requireNoSecret(t, err.Error())
	}
	_, err := config.Parse("hapax.yaml", nil, []string{"HAPAX_REDIS_PASWORD=hunter2", "HAPAX_SQL_DSN=hunter2", "HAPAX_RABBITMQ_URL=http://u:hunter2@h"})
	requireNoSecret(t, err.Error())

	_, err = config.Parse("hapax.yaml", []byte("service: a\nbroker: redis"), []string{"HAPAX_REDIS_ADDRESSES=redis://u:hunter2@h:6379"})
	require.EqualError(t, err, `HAPAX_REDIS_ADDRESSES: redis.addresses: found something with an @ (it may be a password, and is not shown), expected a list of host:port such as ["127.0.0.1:6379"]`)
}

func TestDSNMasksOnlyPasswords(t *testing.T) {
	for dsn, want := range map[string]string{
		"":                                    "",
		"file:orders.db?_pragma=x":            "file:orders.db?_pragma=x",
		"orders.db":                           "orders.db",
		"redis://:hunter2@h:1/0":              "redis://:***@h:1/0",
		"postgres://u@h/db":                   "postgres://u@h/db",
		"postgres://h/db?password=hunter2&a":  "postgres://h/db?password=***&a",
		"postgres://u:p%40hunter2@h/db":       "postgres://u:***@h/db",
		"postgres://u:hunter2@h1:1,h2:2/db":   "postgres://u:***@h1:1,h2:2/db",
		"amqp://u:1/hunter2@h/":               "***",
		"amqp://u:1?hunter2@h/":               "***",
		"amqp://u:1#hunter2@h/":               "***",
		"host=h password=hunter2 user=u":      "host=h password=*** user=u",
		"host=h password='hu nter2\\' x' a=b": "host=h password=*** a=b",
		"host=h password = hunter2":           "host=h password = ***",
		"u:hunter2@tcp(h)/db?tls=true":        "u:***@tcp(h)/db?tls=true",
		"u:a@b:hunter2/x@tcp(h)/db":           "u:***@tcp(h)/db",
		"u:hunter2@/db":                       "u:***@/db",
		"strange hunter2@h":                   "***",
	} {
		require.Equal(t, want, config.DSN(dsn).String(), dsn)
	}
	rapid.Check(t, func(t *rapid.T) {
		password := rapid.StringMatching(`[ -~]{0,8}hunter2[ -~]{0,8}`).Draw(t, "password")
		form := rapid.SampledFrom([]string{"amqp://u:%s@h:1/v", "u:%s@tcp(h:1)/db", "host=h password='%s'", "redis://:%s@h/0"}).Draw(t, "form")
		if strings.HasPrefix(form, "host=") {
			password = strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(password)
		}
		masked := config.DSN(fmt.Sprintf(form, password)).String()
		require.NotContains(t, masked, "hunter2")
	})
}

func TestDSNDriver(t *testing.T) {
	for dsn, want := range map[string]string{
		"": "", "postgres://h/db": "postgres", "postgresql://h": "postgres", "host=h dbname=orders.db": "postgres",
		"mysql://h/db": "mysql", "u:p@tcp(h)/orders.db": "mysql", "u@unix(/s)/db": "mysql", "u:p@/db": "mysql",
		"file:x": "sqlite", "sqlite:x": "sqlite", "sqlite://x": "sqlite", "data/orders.db": "sqlite", "rediss://h": "redis", "oracle://h": "", "x": "",
	} {
		require.Equal(t, want, config.DSN(dsn).Driver(), dsn)
	}
}
