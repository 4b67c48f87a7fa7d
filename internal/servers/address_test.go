package servers

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseAddress(t *testing.T) {
	for _, c := range []struct{ name, in, url, host string }{
		{Kafka, "a:1", "a:1", "a:1"},
		{RabbitMQ, "amqp://u:p@a/", "amqp://u:p@a/", "a:5672"},
		{Redis, "a:1", "redis://a:1/0", "a:1"},
		{Redis, "rediss://a/2", "rediss://a/2", "a:6379"},
		{SQS, "https://a/x", "https://a/x", "a:443"},
		{Postgres, "postgresql://u:p@a/d", "postgresql://u:p@a/d", "a:5432"},
		{MariaDB, "u:p@tcp(a:1)/d?x=y", "u:p@tcp(a:1)/d?x=y", "a:1"},
		{MariaDB, "mysql://u:p@a/d?x=y", "u:p@tcp(a:3306)/d?x=y", "a:3306"},
	} {
		a, err := ParseAddress(c.name, c.in)
		require.NoError(t, err, c.in)
		require.Equal(t, c.url, a.URL)
		require.Equal(t, []string{c.host}, a.Hosts)
	}
	a, err := ParseAddress(RedisSentinel, "redis-sentinel://a:1,b:2/group")
	require.NoError(t, err)
	require.Equal(t, []string{"a:1", "b:2"}, a.Hosts)
	require.Equal(t, "group", a.Master)
}

func TestParseAddressSaysWhatItExpected(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{Kafka, "a:1,b", `found "b", expected host:port`},
		{RabbitMQ, "a:5672", "expected amqp:// or amqps://host:port"},
		{SQS, "a:1", "expected http:// or https://host:port"},
		{MariaDB, "a:1", "expected user:password@tcp(host:port)/database"},
		{RedisSentinel, "a:1", "expected redis-sentinel://host:port,host:port/master"},
		{"nats", "a:1", `unknown server "nats": expected one of kafka, rabbitmq`},
	} {
		_, err := ParseAddress(c.name, c.in)
		require.ErrorContains(t, err, c.want)
	}
}

func TestVariablesAreLegalInAShell(t *testing.T) {
	for _, name := range Names() {
		require.Regexp(t, `^HAPAX_TEST_[A-Z_]+$`, Variable(name))
	}
}
