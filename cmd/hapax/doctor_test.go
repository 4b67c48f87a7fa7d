package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	amqp "github.com/rabbitmq/amqp091-go"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

// doctor runs hapax doctor --json on a config.
func doctor(t *testing.T, configuration string, arguments ...string) (map[string]diagnosis, error) {
	t.Helper()
	file := writeConfig(t, configuration)
	text, err := run(t, append([]string{"doctor", "--json", "-f", file}, arguments...)...)
	start, end := strings.Index(text, "["), strings.LastIndex(text, "]")
	require.True(t, start >= 0 && end > start, "no JSON in %q (%v)", text, err)
	var list []diagnosis
	require.NoError(t, json.Unmarshal([]byte(text[start:end+1]), &list))
	byName := map[string]diagnosis{}
	for _, d := range list {
		// The worst of a name counts.
		if known, seen := byName[d.Check]; !seen || known.Status == "ok" {
			byName[d.Check] = d
		}
	}
	return byName, err
}

func writeConfig(t *testing.T, configuration string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hapax.yaml")
	require.NoError(t, os.WriteFile(file, []byte(configuration), 0o600))
	return file
}

// uniqueTopic is a name that no run has used: the servers outlive them.
func uniqueTopic() string { return fmt.Sprintf("ops-%x", dedup.NextToken()) }

func requireUnsafe(t *testing.T, found map[string]diagnosis, err error, names ...string) {
	t.Helper()
	for _, name := range names {
		require.Equal(t, "unsafe", found[name].Status, "%s: %+v", name, found[name])
		require.NotEmpty(t, found[name].Problem)
		require.NotEmpty(t, found[name].Fix)
	}
	require.Equal(t, exitFound, exitStatus(err))
}

func TestDoctorOnKafka(t *testing.T) {
	address := servers.Require(t, servers.Kafka)
	client, err := kgo.NewClient(kgo.SeedBrokers(address.Hosts...))
	require.NoError(t, err)
	defer client.Close()
	admin, topic := kadm.NewClient(client), uniqueTopic()
	create := func(topic string, settings map[string]*string) {
		_, err := admin.CreateTopic(t.Context(), 2, 1, settings, topic)
		require.NoError(t, err)
	}
	yaml := fmt.Sprintf("service: fulfilment\nbroker: kafka\nkafka: {brokers: [%q]}\n", address.Hosts[0])
	missing, err := doctor(t, yaml, topic)
	requireUnsafe(t, missing, err, "kafka-topic")

	text := func(s string) *string { return &s }
	create(topic, map[string]*string{"min.insync.replicas": text("2"), "unclean.leader.election.enable": text("true"), "retention.ms": text("2592000000")})
	create("fulfilment."+topic+"."+topic+".hapax-ids", map[string]*string{"cleanup.policy": text("compact")})
	var found map[string]diagnosis
	require.Eventually(t, func() bool { // brokers learn of a new topic one after the other
		found, err = doctor(t, yaml, topic)
		return found["kafka-topic"].Status == "ok" && found["kafka-id-log"].Status != "ok"
	}, 20*time.Second, 100*time.Millisecond)
	requireUnsafe(t, found, err, "kafka-min-isr", "kafka-unclean-election", "kafka-id-log")
	require.Contains(t, found["kafka-min-isr"].Problem, "min.insync.replicas=2")
	require.Contains(t, found["kafka-id-log"].Problem, "cleanup.policy=compact")
	require.Equal(t, "warning", found["kafka-retention"].Status)
	require.Contains(t, found["kafka-retention"].Problem, "720h")
	require.Equal(t, "warning", found["kafka-replication"].Status, "a cluster of one is for development")
	require.Equal(t, "warning", found["kafka-dead-letters"].Status)

	healthy := uniqueTopic()
	create(healthy, nil)
	create(dedup.DeadLetterTopic(healthy), nil)
	require.Eventually(t, func() bool {
		found, err = doctor(t, yaml, healthy)
		return err == nil
	}, 20*time.Second, 100*time.Millisecond, "%v", err)
}

func TestDoctorOnRedis(t *testing.T) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		if servers.RequireReal() {
			t.Fatal("REQUIRE_REAL=1: redis-server is not installed")
		}
		t.Skip("not run: redis-server is not installed, and the test needs a server of its own")
	}
	yaml := func(args ...string) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		address := listener.Addr().String()
		_, port, _ := net.SplitHostPort(address)
		require.NoError(t, listener.Close())
		server := exec.Command(program, append([]string{"--bind", "127.0.0.1", "--port", port, "--dir", t.TempDir()}, args...)...)
		require.NoError(t, server.Start())
		t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
		client := goredis.NewClient(&goredis.Options{Addr: address})
		defer client.Close()
		require.Eventually(t, func() bool { return client.Ping(context.Background()).Err() == nil }, 20*time.Second, 10*time.Millisecond)
		return fmt.Sprintf("service: fulfilment\nbroker: redis\nredis: {addresses: [%q]}\n", address)
	}
	found, err := doctor(t, yaml("--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"), "orders")
	requireUnsafe(t, found, err, "redis-eviction")
	require.Equal(t, "ok", found["redis-persistence"].Status)
	require.Equal(t, "ok", found["redis-clock"].Status)

	found, _ = doctor(t, yaml("--appendonly", "no", "--save", ""), "orders")
	require.NotEqual(t, "ok", found["redis-persistence"].Status)
	require.Contains(t, found["redis-persistence"].Problem, "loses every message and every mark")
	require.Equal(t, "ok", found["redis-eviction"].Status)

	found, _ = doctor(t, yaml("--appendonly", "yes", "--appendfsync", "no"), "orders")
	require.Contains(t, found["redis-persistence"].Problem, "appendfsync is no")
}

func TestDoctorOnRabbitMQ(t *testing.T) {
	address := servers.Require(t, servers.RabbitMQ)
	conn, err := amqp.Dial(address.URL)
	require.NoError(t, err)
	defer conn.Close()
	declare := func(queue string, arguments amqp.Table) {
		channel, err := conn.Channel()
		require.NoError(t, err)
		_, err = channel.QueueDeclare(queue, true, false, false, false, arguments)
		require.NoError(t, err)
		require.NoError(t, channel.Close())
	}
	yaml := fmt.Sprintf("service: fulfilment\nbroker: rabbitmq\nrabbitmq: {url: %q}\nsqlite: {path: %q}\n", address.URL, filepath.Join(t.TempDir(), "ledger.db"))
	classic, limited := uniqueTopic(), uniqueTopic()
	declare(classic+"_fulfilment."+classic, amqp.Table{"x-queue-type": "classic"})
	found, err := doctor(t, yaml, classic)
	requireUnsafe(t, found, err, "rabbitmq-queue-type")

	declare(limited+"_fulfilment."+limited, amqp.Table{"x-queue-type": "quorum", "x-max-length": 10, "x-delivery-limit": 3})
	found, err = doctor(t, yaml, limited)
	requireUnsafe(t, found, err, "rabbitmq-queue-limits")
	require.Contains(t, found["rabbitmq-queue-limits"].Problem, "x-max-length=10")
	require.Equal(t, "warning", found["rabbitmq-queue-differs"].Status)

	found, err = doctor(t, yaml, uniqueTopic())
	require.NoError(t, err)
	require.Contains(t, found["rabbitmq-queue"].Found, "made at the first start")
	found, _ = doctor(t, yaml+"dedup: {window: 2h}\n", uniqueTopic())
	require.Contains(t, found["rabbitmq-window-too-short"].Problem, "dedup.window is 2h")
	require.Equal(t, "warning", found["ledger-one-host"].Status)
}

func TestDoctorOnSQS(t *testing.T) {
	address := servers.Require(t, servers.SQS)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_REGION", "eu-west-1")
	client := awssqs.New(awssqs.Options{BaseEndpoint: &address.URL, Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")})
	create := func(name string, attributes map[string]string) string {
		made, err := client.CreateQueue(t.Context(), &awssqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
		require.NoError(t, err)
		return aws.ToString(made.QueueUrl)
	}
	yaml := fmt.Sprintf("service: fulfilment\nbroker: sqs\nsqs: {endpoint: %q, region: eu-west-1}\nsqlite: {path: %q}\n", address.URL, filepath.Join(t.TempDir(), "ledger.db"))
	topic := uniqueTopic()
	found, err := doctor(t, yaml, topic)
	requireUnsafe(t, found, err, "sqs-queue")

	letters := create(topic+"-letters", nil)
	named, err := client.GetQueueAttributes(t.Context(), &awssqs.GetQueueAttributesInput{QueueUrl: &letters, AttributeNames: []sqstypes.QueueAttributeName{"QueueArn"}})
	require.NoError(t, err)
	create(topic, map[string]string{
		"MessageRetentionPeriod": "1209600", // 14 days
		"RedrivePolicy":          fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":1}`, named.Attributes["QueueArn"]),
	})
	found, err = doctor(t, yaml, topic)
	requireUnsafe(t, found, err, "sqs-redrive")
	// ElasticMQ does not tell the retention, which is a finding too; the adapter's own
	// test has a server that does.
	require.Equal(t, "warning", found["sqs-retention"].Status)

	found, err = doctor(t, yaml+"allow: [sqs-redrive, sqs-retention]\n", topic)
	require.NoError(t, err)
	require.Equal(t, "allowed", found["sqs-redrive"].Status)
}

func TestDoctorOnSQL(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, dialect sqldb.Dialect, dsn string) {
		yaml := fmt.Sprintf("service: fulfilment\nsqlite: {path: %q}\nsql: {dsn: %q}\n", filepath.Join(t.TempDir(), "hapax.db"), dsn)
		found, err := doctor(t, yaml, "orders")
		require.NoError(t, err)
		require.Equal(t, "not current; migrated at the next start", found["sql-schema"].Found)
		found, err = doctor(t, strings.TrimSuffix(yaml, "}\n")+", migrate: check}\n", "orders")
		requireUnsafe(t, found, err, "sql-schema")

		db := sqldbtest.Open(t, dsn, sqldb.Options{})
		tables, err := schema.New(db, dialect, schema.Names{}.WithDefaults())
		require.NoError(t, err)
		_, err = tables.Up(t.Context())
		require.NoError(t, err)
		found, err = doctor(t, yaml, "orders")
		require.NoError(t, err)
		for _, check := range []string{"sql-connection", "sql-schema", "sql-index", "sql-durability"} {
			require.Equal(t, "ok", found[check].Status, "%+v", found[check])
		}
		exec := func(statement string, args ...any) {
			_, err := db.ExecContext(t.Context(), statement, args...)
			require.NoError(t, err)
		}
		switch dialect {
		case sqldb.Postgres:
			require.Equal(t, "ok", found["sql-clock"].Status)
			exec(`ALTER TABLE hapax_inbox DROP CONSTRAINT hapax_inbox_pkey`)
			var name string
			require.NoError(t, db.QueryRowContext(t.Context(), `SELECT current_database()`).Scan(&name))
			exec(`ALTER DATABASE ` + name + ` SET synchronous_commit = off`)
			found, err = doctor(t, yaml, "orders")
			requireUnsafe(t, found, err, "sql-index", "sql-durability")
		case sqldb.MySQL:
			require.Equal(t, "ok", found["sql-clock"].Status)
			exec(`DROP TABLE hapax_inbox`)
			exec(`CREATE TABLE hapax_inbox (id BINARY(16)) ENGINE = MyISAM`)
			found, err = doctor(t, yaml, "orders")
			requireUnsafe(t, found, err, "sql-index", "sql-engine")
			// The service sets the isolation of its own connections; those of a ledger
			// have the server's, or the DSN's.
			dirty := dsn + "&tx_isolation=%27READ-UNCOMMITTED%27"
			found, err = doctor(t, fmt.Sprintf("service: fulfilment\nsqlite: {path: %q}\ndedup: {strategy: consumer, ledger: {dsn: %q}}\n", filepath.Join(t.TempDir(), "hapax.db"), dirty), "orders")
			requireUnsafe(t, found, err, "sql-isolation")
		default:
			exec(`DROP TABLE hapax_inbox`)
			exec(`CREATE TABLE hapax_inbox (id BLOB)`)
			found, err = doctor(t, strings.Replace(yaml, dsn, dsn+"?synchronous=off", 1), "orders")
			requireUnsafe(t, found, err, "sql-index", "sql-durability")
		}
	})
}

func TestDoctorOnTheConfig(t *testing.T) {
	yaml := fmt.Sprintf("service: fulfilment\nsqlite: {path: %q}\n", filepath.Join(t.TempDir(), "hapax.db"))
	found, err := doctor(t, yaml+"dedup: {window: 10s, lease: 30s}\n", "orders")
	requireUnsafe(t, found, err, "dedup-window")
	found, err = doctor(t, yaml+"dedup: {strategy: none}\n", "orders")
	require.NoError(t, err)
	require.Equal(t, "warning", found["dedup-off"].Status)
}

func TestDoctorWithoutABroker(t *testing.T) {
	found, err := doctor(t, "service: fulfilment\nbroker: redis\nredis: {addresses: [\"127.0.0.1:1\"]}\n")
	requireUnsafe(t, found, err, "broker-connection")

	text, err := run(t, "doctor", "-f", writeConfig(t, "service: fulfilment\nsqlite: {path: \""+filepath.Join(t.TempDir(), "hapax.db")+"\"}\n"), "orders")
	require.NoError(t, err)
	require.Contains(t, text, "0 unsafe")
	require.NotContains(t, text, "\x1b", "no colour")

	_, err = run(t, "doctor", "-f", filepath.Join(t.TempDir(), "missing.yaml"))
	require.Equal(t, 1, exitStatus(err))
	require.Equal(t, 3, exitStatus(fmt.Errorf("wrapped: %w", exitError{errors.New("x"), 3})))
}
