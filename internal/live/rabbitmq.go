package live

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
)

// rabbitMQPeer reads queues: an exchange keeps nothing.
type rabbitMQPeer struct {
	url    string
	queues map[string]string // by topic, as the broker calls it
}

// rabbitMQ makes a virtual host of its own. No queue is in it: a topic that nobody
// reads refuses messages, and a service has to get by with that; see KeepCopies and
// ReadAs.
func (p *Place) rabbitMQ(t testing.TB) peer {
	server := servers.Require(t, servers.RabbitMQ)
	address, err := url.Parse(server.URL)
	require.NoError(t, err)
	if server.Management != "" {
		vhost := strings.TrimSuffix(p.prefix, "-")
		manage(t, server.Management, http.MethodPut, "/api/vhosts/"+vhost, "")
		t.Cleanup(func() { manage(t, server.Management, http.MethodDelete, "/api/vhosts/"+vhost, "") })
		manage(t, server.Management, http.MethodPut, "/api/permissions/"+vhost+"/"+address.User.Username(),
			`{"configure":".*","write":".*","read":".*"}`)
		address.Path = "/" + vhost
	}
	p.set("HAPAX_RABBITMQ_URL", address.String())
	return rabbitMQPeer{address.String(), map[string]string{}}
}

// keepCopies makes a queue that gets a copy of every message of a topic.
func (p rabbitMQPeer) keepCopies(t testing.TB, topic string) {
	p.queues[topic] = topic + ".copies"
	p.do(t, func(channel *amqp.Channel) {
		require.NoError(t, channel.ExchangeDeclare(topic, amqp.ExchangeFanout, true, false, false, false, nil))
		_, err := channel.QueueDeclare(p.queues[topic], true, false, false, false, nil)
		require.NoError(t, err)
		require.NoError(t, channel.QueueBind(p.queues[topic], "", topic, false, nil))
	})
}

func (p rabbitMQPeer) do(t testing.TB, work func(*amqp.Channel)) {
	conn, err := amqp.Dial(p.url)
	require.NoError(t, err)
	defer conn.Close()
	channel, err := conn.Channel()
	require.NoError(t, err)
	work(channel)
}

// read takes what is in the queue. It consumes: a queue with a single active consumer
// refuses to be polled.
func (p rabbitMQPeer) read(t testing.TB, topic string) (payloads [][]byte, again bool) {
	p.do(t, func(channel *amqp.Channel) {
		queue, err := channel.QueueDeclarePassive(p.queues[topic], true, false, false, false, nil)
		require.NoError(t, err)
		if queue.Messages == 0 {
			return
		}
		require.NoError(t, channel.Qos(queue.Messages, 0, false)) // no more than are read: they would be lost
		deliveries, err := channel.Consume(queue.Name, "", false, false, false, false, nil)
		require.NoError(t, err)
		for range queue.Messages {
			delivery := <-deliveries
			payloads = append(payloads, delivery.Body)
			require.NoError(t, delivery.Ack(false))
		}
	})
	return payloads, false
}

func manage(t testing.TB, base, method, path, body string) {
	request, err := http.NewRequest(method, strings.TrimSuffix(base, "/")+path, strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	response, err := oneByOne.Do(request) // the credentials are in the URL
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Less(t, response.StatusCode, 300, "%s %s", method, path)
}
