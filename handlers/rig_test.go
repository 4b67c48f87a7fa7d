package handlers_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/handlers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type order struct {
	ID    string `json:"id"`
	Cents int    `json:"cents,omitempty"`
}

type shipment struct {
	Order string `json:"order"`
}

var (
	scope = dedup.Scope{Service: "fulfilment", Handler: "place"}
	quiet = slog.New(slog.NewTextHandler(io.Discard, nil))
)

// published is one message as it left the commit.
type published struct {
	topic string
	*message.Message
}

// recorder is a publisher that remembers.
type recorder struct {
	mu   sync.Mutex
	sent []published
}

func (r *recorder) Publish(topic string, msgs ...*message.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, msg := range msgs {
		r.sent = append(r.sent, published{topic, msg})
	}
	return nil
}

func (r *recorder) Close() error { return nil }

// inside runs a handler inside the real dedup middleware; what it commits goes
// to the recorder. "out" stands for the Router's publish topic.
func inside(t *testing.T, handle message.HandlerFunc) (message.HandlerFunc, *recorder) {
	t.Helper()
	sent := &recorder{}
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: dedup.Plain{Publisher: sent}})
	require.NoError(t, err)
	return middleware.Wrap(handlers.Recover(func(msg *message.Message) ([]*message.Message, error) {
		outputs, err := handle(msg)
		for _, output := range outputs {
			if output.Metadata.Get(dedup.MetaTopic) == "" {
				output.Metadata.Set(dedup.MetaTopic, "out")
			}
		}
		return outputs, err
	})), sent
}

func adapt(t *testing.T, fn any, options handlers.Options) handlers.Handler {
	t.Helper()
	if options.Logger == nil {
		options.Logger = quiet
	}
	handler, err := handlers.Adapt(fn, options)
	require.NoError(t, err)
	return handler
}

// run handles one message and returns what was published.
func run(t *testing.T, fn any, msg *message.Message) ([]published, error) {
	t.Helper()
	handle, sent := inside(t, adapt(t, fn, handlers.Options{}).Single)
	left, err := handle(msg)
	require.Empty(t, left, "nothing is handed back to the Router")
	return sent.sent, err
}

func delivered(payload string) *message.Message {
	msg := message.NewMessage("event-1", []byte(payload))
	msg.SetContext(adapters.WithDelivery(context.Background(),
		&adapters.Delivery{Attempt: 1, Position: "orders/3@1234"}))
	return msg
}

func texts(sent []published) (all []string) {
	for _, p := range sent {
		all = append(all, fmt.Sprintf("%s %s", p.topic, p.Payload))
	}
	return all
}
