package framework_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqlite"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type Order struct {
	ID   string `json:"id"`
	Item string `json:"item"`
}

type Shipment struct {
	OrderID string `json:"order_id"`
}

func parse(t *testing.T, extra string) *config.Config {
	t.Helper()
	text := "service: fulfilment\nsqlite: {path: \"" + filepath.Join(t.TempDir(), "hapax.db") + "\", lease: 2s}\n" +
		"admin: {address: \"127.0.0.1:0\"}\nretry: {initial_interval: 1ms, max_interval: 2ms, max_attempts: 3}\n" + extra
	cfg, err := config.Parse("hapax.yaml", []byte(text), nil)
	require.NoError(t, err)
	return cfg
}

func newService(t *testing.T, cfg *config.Config) *framework.Service {
	t.Helper()
	service, err := framework.New(t.Context(), cfg, framework.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	return service
}

// start runs a service until the returned function, which hands back Run's error.
func start(t *testing.T, service *framework.Service) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- service.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-ran })
	t.Cleanup(func() { _ = stop() })
	select {
	case <-service.Router().Running():
	case err := <-ran:
		ran <- err
		require.NoError(t, err)
	}
	return stop
}

func publish(t *testing.T, service *framework.Service, topic, id string, value any) {
	t.Helper()
	payload, err := json.Marshal(value)
	require.NoError(t, err)
	msg := message.NewMessage("", payload)
	msg.Metadata.Set(dedup.MetaEventID, id)
	require.NoError(t, service.Publisher().Publish(topic, msg))
}

// read collects n messages of a topic through a consumer group of its own.
func read(t *testing.T, service *framework.Service, topic string, n int) (found []*message.Message) {
	t.Helper()
	subscriber, err := service.Broker().Subscriber(adapters.Subscription{Group: "test-" + topic})
	require.NoError(t, err)
	defer func() { require.NoError(t, subscriber.Close()) }()
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	for range n {
		select {
		case msg := <-messages:
			msg.Ack()
			found = append(found, msg)
		case <-time.After(20 * time.Second):
			require.FailNow(t, "no more messages", "topic %s: found %d, expected %d", topic, len(found), n)
		}
	}
	return found
}

// counter counts runs by event, from many goroutines.
type counter struct {
	mu   sync.Mutex
	runs map[string]int
}

func (c *counter) add(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runs == nil {
		c.runs = map[string]int{}
	}
	c.runs[id]++
	return c.runs[id]
}

func (c *counter) of(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runs[id]
}

// sqliteDB is the broker's own file, where the service keeps its tables.
func sqliteDB(t *testing.T, service *framework.Service) *sql.DB {
	t.Helper()
	broker, ok := service.Broker().(*sqlite.Broker)
	require.True(t, ok)
	return broker.DB()
}
