package live

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
)

// Place is a broker for one test.
type Place struct {
	// Broker is the broker's name in hapax.yaml.
	Broker string
	// Environ is what makes a service run here: HAPAX_ variables, mostly.
	Environ []string

	prefix string
	peer   peer
	taken  map[string][][]byte // what peers that empty a queue have read already
}

// peer is a broker as its own client sees it.
type peer interface {
	// read returns the payloads on a topic, by its name at the broker, in the
	// broker's order if it has one. again: a second read returns them again.
	read(t testing.TB, topic string) (payloads [][]byte, again bool)
}

// New makes a place on a broker. Without its server the test is skipped and
// reported, see servers.Require. Topics are the logical names that the service
// uses.
func New(t testing.TB, broker string, topics ...string) *Place {
	t.Helper()
	p := &Place{Broker: broker, taken: map[string][][]byte{}, prefix: "live-" + strings.ToLower(rand.Text()[:10]) + "-"}
	names := map[string]map[string]string{}
	for _, topic := range topics {
		names[topic] = map[string]string{"name": p.Topic(topic)}
	}
	encoded, err := json.Marshal(names)
	require.NoError(t, err)
	p.set("HAPAX_BROKER", broker)
	p.set("HAPAX_TOPICS", string(encoded))
	p.set("HAPAX_ADMIN_ADDRESS", "127.0.0.1:0")
	// The embedded broker, and the ledger of strategies that have one.
	file := filepath.Join(t.TempDir(), "hapax.db")
	p.set("HAPAX_SQLITE_PATH", file)
	switch broker {
	case "sqlite":
		servers.RanInProcess(t, "sqlite", "modernc")
		p.peer = sqlitePeer{file}
	case "kafka":
		p.peer = p.kafka(t)
	case "rabbitmq":
		p.peer = p.rabbitMQ(t)
	case "redis":
		p.peer = p.redis(t)
	case "sqs", "sqs-fifo":
		p.peer = p.sqs(t, broker == "sqs-fifo")
	default:
		require.FailNow(t, "no such broker: "+broker)
	}
	return p
}

// Topic is the name at the broker of a logical topic.
func (p *Place) Topic(logical string) string { return p.prefix + logical }

// KeepCopies lets what is published to a topic from now on be read, where the broker
// itself keeps nothing for later readers.
func (p *Place) KeepCopies(t testing.TB, topic string) {
	if rabbit, is := p.peer.(rabbitMQPeer); is {
		rabbit.keepCopies(t, p.Topic(topic))
	}
}

// ReadAs makes Read take a topic's messages out of the queue that a group has, where
// that is where messages are. The queue must exist by then.
func (p *Place) ReadAs(topic, group string) {
	if rabbit, is := p.peer.(rabbitMQPeer); is {
		rabbit.queues[p.Topic(topic)] = p.Topic(topic) + "_" + group
	}
}

// Read returns the payloads that were ever sent to a topic, given by its logical
// name. On SQS it takes them out of the queue, so nobody else may read it.
func (p *Place) Read(t testing.TB, topic string) [][]byte {
	t.Helper()
	payloads, again := p.peer.read(t, p.Topic(topic))
	if again {
		return payloads
	}
	p.taken[topic] = append(p.taken[topic], payloads...)
	return p.taken[topic]
}

// AwaitRead reads until there are n payloads on a topic, or more.
func (p *Place) AwaitRead(t testing.TB, topic string, n int) [][]byte {
	t.Helper()
	ticker, deadline := time.NewTicker(20*time.Millisecond), time.After(patience)
	defer ticker.Stop()
	for {
		payloads := p.Read(t, topic)
		if len(payloads) >= n {
			return payloads
		}
		select {
		case <-ticker.C:
		case <-deadline:
			require.FailNow(t, "messages are missing", "topic %s has %d, expected %d", topic, len(payloads), n)
		}
	}
}

// With returns the place's variables and one more.
func (p *Place) With(name, value string) []string {
	return append(append([]string{}, p.Environ...), name+"="+value)
}

func (p *Place) set(name, value string) {
	p.Environ = append(p.Environ, fmt.Sprintf("%s=%s", name, value))
}
