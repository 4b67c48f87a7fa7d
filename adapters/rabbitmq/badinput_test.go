package rabbitmq_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/handlers"
	"github.com/hapax-go/hapax/internal/servers"
)

type order struct {
	ID string `json:"id"`
}

// configure is the config of a service with a ledger.
func configure(url, name, ledger string) (*config.Config, error) {
	text := fmt.Sprintf(`service: %s
broker: rabbitmq
rabbitmq: {url: %q}
admin: {enabled: false}
retry: {initial_interval: 1ms, max_interval: 2ms, max_attempts: 3}
dedup: %s
`, strings.ReplaceAll(name, ".", "-"), url, ledger)
	return config.Parse("hapax.yaml", []byte(text), nil)
}

// ledgers are the choices of dedup.ledger. A memory ledger must be allowed.
func ledgers(t *testing.T) map[string]string {
	at := func(store, server string) string {
		return fmt.Sprintf("{ledger: {store: %s, dsn: %q}}", store, servers.Require(t, server).URL)
	}
	return map[string]string{
		"redis": at("redis", servers.Redis), "postgres": at("postgres", servers.Postgres), "mysql": at("mysql", servers.MariaDB),
		"sqlite": fmt.Sprintf("{ledger: {store: sqlite, dsn: %q}}", filepath.Join(t.TempDir(), "ledger.db")),
		"memory": "{allow_volatile: true, ledger: {store: memory}}",
	}
}

func take(t *testing.T, service *framework.Service, topic string) <-chan *message.Message {
	t.Helper()
	return subscribe(t, service.Broker().(*rabbitmq.Broker), topic, func(s *adapters.Subscription) { s.Group = "test" })
}

// Scenario 17, and scenario 13 of a service, on each ledger: another program's bad
// messages go to the dead-letter topic, each with its reason; the good one behind
// them, sent twice, makes one output; and none counts as sent before the topic of the
// outputs has a queue.
func TestBadInput(t *testing.T) {
	for name, ledger := range ledgers(t) {
		t.Run(name, func(t *testing.T) {
			topic := newTopic(t)
			cfg, err := configure(servers.Require(t, servers.RabbitMQ).URL, topic, ledger)
			require.NoError(t, err)
			service, err := framework.New(t.Context(), cfg, framework.WithLogger(quiet))
			require.NoError(t, err)
			framework.Handle(service, topic, func(_ context.Context, o order) (order, error) {
				if o.ID == "huge" {
					return order{ID: strings.Repeat("x", 17<<20)}, nil
				}
				return o, nil
			}, framework.To(topic+".out"))
			letters := take(t, service, topic+".dead")
			ctx, stop := context.WithCancel(context.Background())
			ran := make(chan error, 1)
			go func() { ran <- service.Run(ctx) }()
			t.Cleanup(func() { stop(); require.NoError(t, <-ran) })
			select {
			case <-service.Router().Running():
			case err := <-ran:
				ran <- err
				require.NoError(t, err)
			}

			channel := raw(t)
			for _, bad := range []struct {
				publishing      amqp.Publishing
				reason, problem string
			}{
				{amqp.Publishing{MessageId: "1", Body: []byte(`{"id": 7}`)}, handlers.ReasonUndecodable, "cannot unmarshal number"},
				{amqp.Publishing{Body: []byte(`{"id": "2"}`)}, handlers.ReasonNoID, "the broker's own field"},
				{amqp.Publishing{Body: []byte(`{"id": "3"}`), Headers: amqp.Table{dedup.MetaEventID: "", "_watermill_message_uuid": ""}}, handlers.ReasonNoID, "event has no ID"},
				{amqp.Publishing{MessageId: "4", Body: []byte(`{"id": "huge"}`)}, handlers.ReasonBadOutput, "the limit is 16777216"},
			} {
				require.NoError(t, channel.Publish(topic, "", true, false, bad.publishing))
				letter := receive(t, letters)
				require.Equal(t, bad.reason, letter.Metadata.Get(dedup.MetaDeadReason))
				require.Contains(t, letter.Metadata.Get(dedup.MetaDeadError), bad.problem)
				require.Equal(t, topic, letter.Metadata.Get(dedup.MetaDeadTopic))
				require.Equal(t, bad.publishing.Body, []byte(letter.Payload))
				letter.Ack()
			}

			for range 2 {
				require.NoError(t, channel.Publish(topic, "", true, false, amqp.Publishing{MessageId: "good", Body: []byte(`{"id": "good"}`)}))
			}
			outputs := take(t, service, topic+".out") // nobody has read them until now
			output := receive(t, outputs)
			require.JSONEq(t, `{"id": "good"}`, string(output.Payload))
			output.Ack()
			require.NoError(t, channel.Publish(topic, "", true, false, amqp.Publishing{MessageId: "last", Body: []byte(`{"id": "last"}`)}))
			output = receive(t, outputs)
			require.JSONEq(t, `{"id": "last"}`, string(output.Payload), "a second output of the good one")
			output.Ack()
		})
	}
}

// A message that its producer has addressed to further queues (sender-selected
// distribution) can be buried, and metadata of that name does no harm.
func TestCopiesAreLeftOut(t *testing.T) {
	t.Parallel()
	broker, topic := opened(t, nil), newTopic(t)
	letters := subscribe(t, broker, dedup.DeadLetterTopic(topic), nil)
	messages := subscribe(t, broker, topic, func(s *adapters.Subscription) { s.MaxDeliveries = 1 })
	require.NoError(t, raw(t).Publish(topic, "", true, false, amqp.Publishing{MessageId: "copied", Headers: amqp.Table{"CC": []any{"a", "b"}}}))
	poison := receive(t, messages)
	require.NotContains(t, poison.Metadata, "CC")
	poison.Nack()
	letter := receive(t, letters)
	require.Equal(t, "copied", letter.Metadata.Get(dedup.MetaEventID))
	letter.Ack()

	output := newMessage("output")
	output.Metadata.Set("CC", "someone@example.org")
	output.Metadata.Set("BCC", "someone else")
	require.NoError(t, broker.Publisher().Publish(topic, output))
}

// What is wrong with the server at the start is one clear error, without the password.
func TestServiceThatCannotStart(t *testing.T) {
	const secret = "s3cr3t"
	allowed := "{allow_volatile: true, ledger: {store: memory}}"
	for name, test := range map[string]struct{ url, ledger, want string }{
		"broker down":       {"amqp://user:" + secret + "@127.0.0.1:1/", allowed, "is the server up, and the address right?"},
		"wrong credentials": {"amqp://user:" + secret + "@" + host(t) + "/", allowed, "check user and password in rabbitmq.url"},
		"no such vhost":     {withVHost(t, "nowhere"), allowed, "does the virtual host exist"},
		"volatile ledger":   {servers.Require(t, servers.RabbitMQ).URL, "{ledger: {store: memory}}", "set dedup.allow_volatile: true"},
		"ledger down":       {servers.Require(t, servers.RabbitMQ).URL, "{ledger: {store: redis, dsn: \"redis://user:" + secret + "@127.0.0.1:1/0\"}}", "check that the server runs there"},
	} {
		t.Run(name, func(t *testing.T) {
			topic := newTopic(t)
			cfg, err := configure(test.url, topic, test.ledger)
			var service *framework.Service
			if err == nil {
				service, err = framework.New(t.Context(), cfg, framework.WithLogger(quiet))
			}
			if err == nil {
				framework.Handle(service, topic, func(context.Context, order) error { return nil })
				err = service.Run(t.Context())
			}
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), secret)
		})
	}
}
