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

type rabbitMQPeer struct{ url string }

// rabbitMQ makes a virtual host of its own, with a queue beside each topic that gets
// a copy of every message: a queue of RabbitMQ keeps nothing that was consumed.
func (p *Place) rabbitMQ(t testing.TB, topics []string) peer {
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
	peer := rabbitMQPeer{address.String()}
	peer.do(t, func(channel *amqp.Channel) {
		for _, topic := range topics {
			name := p.Topic(topic)
			require.NoError(t, channel.ExchangeDeclare(name, amqp.ExchangeFanout, true, false, false, false, nil))
			_, err := channel.QueueDeclare(name+".copies", true, false, false, false, nil)
			require.NoError(t, err)
			require.NoError(t, channel.QueueBind(name+".copies", "", name, false, nil))
		}
	})
	return peer
}

func (p rabbitMQPeer) do(t testing.TB, work func(*amqp.Channel)) {
	conn, err := amqp.Dial(p.url)
	require.NoError(t, err)
	defer conn.Close()
	channel, err := conn.Channel()
	require.NoError(t, err)
	work(channel)
}

func (p rabbitMQPeer) read(t testing.TB, topic string) (payloads [][]byte, again bool) {
	p.do(t, func(channel *amqp.Channel) {
		for {
			delivery, found, err := channel.Get(topic+".copies", true)
			require.NoError(t, err)
			if !found {
				return
			}
			payloads = append(payloads, delivery.Body)
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
