package main

import (
	"fmt"
	"path/filepath"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
)

func TestDoctorOnRabbitMQ(t *testing.T) {
	address := servers.Require(t, servers.RabbitMQ)
	conn, err := amqp.Dial(address.URL)
	require.NoError(t, err)
	defer conn.Close()
	service := func(more string) string {
		return fmt.Sprintf("service: fulfilment\nbroker: rabbitmq\nrabbitmq: {url: %q%s}\nsqlite: {path: %q}\n", address.URL, more, filepath.Join(t.TempDir(), "ledger.db"))
	}
	yaml := service("")
	queue := func(arguments amqp.Table) func(*testing.T) (string, string) {
		return func(t *testing.T) (string, string) {
			topic := uniqueTopic()
			channel, err := conn.Channel()
			require.NoError(t, err)
			defer channel.Close()
			if _, planted := arguments["x-single-active-consumer"]; !planted {
				arguments["x-single-active-consumer"] = true
			}
			_, err = channel.QueueDeclare(topic+"_fulfilment."+topic, true, false, false, false, arguments)
			require.NoError(t, err)
			return yaml, topic
		}
	}
	setting := func(more string) func(*testing.T) (string, string) {
		return func(*testing.T) (string, string) { return yaml + more, uniqueTopic() }
	}
	const quorum = "quorum"
	find(t, []misconfiguration{
		{what: "a classic queue for a quorum queue", plant: queue(amqp.Table{"x-queue-type": "classic"}), check: "rabbitmq-queue-type", says: "x-queue-type"},
		{what: "a queue that does not keep order", plant: queue(amqp.Table{"x-queue-type": quorum, "x-single-active-consumer": false}), check: "rabbitmq-queue-order", says: "has no single active consumer"},
		{what: "a limit of messages", plant: queue(amqp.Table{"x-queue-type": quorum, "x-max-length": 10}), check: "rabbitmq-queue-limits", says: "x-max-length=10: it drops messages", runs: true},
		{what: "a limit of bytes", plant: queue(amqp.Table{"x-queue-type": quorum, "x-max-length-bytes": 1 << 20}), check: "rabbitmq-queue-limits", says: "x-max-length-bytes=1048576", runs: true},
		{what: "messages that expire", plant: queue(amqp.Table{"x-queue-type": quorum, "x-message-ttl": 60_000}), check: "rabbitmq-queue-limits", says: "x-message-ttl=60000", runs: true},
		{what: "a queue that expires", plant: queue(amqp.Table{"x-queue-type": quorum, "x-expires": 60_000}), check: "rabbitmq-queue-limits", says: "x-expires=60000", runs: true},
		{what: "a limit of deliveries, and nowhere to go", plant: queue(amqp.Table{"x-queue-type": quorum, "x-delivery-limit": 3}), check: "rabbitmq-queue-limits", says: "x-delivery-limit=3 and no x-dead-letter-exchange", runs: true},
		{what: "another limit of deliveries", plant: queue(amqp.Table{"x-queue-type": quorum, "x-delivery-limit": 3, "x-dead-letter-exchange": "amq.fanout"}), check: "rabbitmq-queue-differs", says: "differs: PRECONDITION_FAILED", warning: true},
		{what: "a window shorter than the longest redelivery", plant: setting("dedup: {window: 2h}\n"), check: "rabbitmq-window-too-short", says: "dedup.window is 2h0m0s, but RabbitMQ may deliver a message again", runs: true},
		{what: "no limit of deliveries", plant: setting("consumer: {max_deliveries: -1}\n"), check: "rabbitmq-window-too-short", says: "without a limit of deliveries", runs: true},
		{what: "a file for a ledger", plant: setting(""), check: "ledger-one-host", says: "two hosts with a file each", warning: true},
		{what: "classic queues", plant: func(*testing.T) (string, string) { return service(", queue_type: classic"), uniqueTopic() }, check: "rabbitmq-classic-queues", says: "classic queues are on one node", warning: true},
	})
	found, err := doctor(t, yaml, uniqueTopic())
	require.NoError(t, err)
	require.Contains(t, found["rabbitmq-queue"].Found, "made at the first start")
	require.Equal(t, "ok", found["rabbitmq-window-too-short"].Status)
}
