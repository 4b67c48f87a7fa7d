package rabbitmq_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
)

// silences stands before the server as a network does that goes silent: while held, a
// connection carries nothing either way, and nobody is told.
type silences struct {
	net.Listener
	mu    sync.Mutex
	conns []*silent
}

type silent struct {
	net.Conn
	held sync.RWMutex
}

func (s *silences) listen(l net.Listener) net.Listener {
	s.Listener = l
	return s
}

func (s *silences) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, &silent{Conn: conn})
	return s.conns[len(s.conns)-1], nil
}

// hold silences the connections of now; those to come are as usual.
func (s *silences) hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return hold(slices.Clone(s.conns))
}

// holdFirst silences the connection that was made first: a broker's for publishes.
func (s *silences) holdFirst() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return hold(slices.Clone(s.conns[:1]))
}

func hold(conns []*silent) (release func()) {
	for _, conn := range conns {
		conn.held.Lock()
	}
	return sync.OnceFunc(func() {
		for _, conn := range conns {
			conn.held.Unlock()
		}
	})
}

func (c *silent) Read(data []byte) (int, error) {
	n, err := c.Conn.Read(data)
	c.held.RLock()
	defer c.held.RUnlock()
	return n, err
}

func (c *silent) Write(data []byte) (int, error) {
	c.held.RLock()
	defer c.held.RUnlock()
	return c.Conn.Write(data)
}

// silenceable opens a broker behind silences.
func silenceable(t *testing.T, config rabbitmq.Config) (*rabbitmq.Broker, *silences) {
	t.Helper()
	between := &silences{}
	config.URL = before(t, "amqp", between.listen, func(to io.Writer, from io.Reader) { _, _ = io.Copy(to, from) })
	config.Logger = quiet
	broker, err := rabbitmq.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = broker.Close() })
	return broker, between
}

// The network goes silent while more is being published than it takes. When the
// heartbeats have told, publishes go over a new connection.
func TestPublishesAfterSilence(t *testing.T) {
	t.Parallel()
	broker, network := silenceable(t, rabbitmq.Config{Heartbeat: time.Second, PublishTimeout: time.Second, MaxPayload: 32 << 20, Channels: 1})
	topic := newTopic(t)
	subscribe(t, broker, topic, nil)
	require.NoError(t, broker.Publisher().Publish(topic, newMessage("before")))
	t.Cleanup(network.hold())
	large := newMessage("large") // it fills all buffers on the way
	large.Payload = make([]byte, 32<<20)
	require.Error(t, broker.Publisher().Publish(topic, large))
	require.Eventually(t, func() bool { return broker.Publisher().Publish(topic, newMessage("after")) == nil }, 30*time.Second, 10*time.Millisecond)
}

// running counts the goroutines that are in a function. Tests that ask are not parallel.
func running(function string) int {
	stacks := make([]byte, 4<<20)
	return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte(function))
}

// A server that does not answer keeps nobody who asks longer than their context lasts,
// and what asks on their behalf does not add up.
func TestPingOfSilentServer(t *testing.T) {
	broker, network := silenceable(t, rabbitmq.Config{})
	require.NoError(t, broker.Ping(t.Context()))
	release := network.hold()
	t.Cleanup(release)
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		pinged := make(chan error, 1)
		go func() { pinged <- broker.Ping(ctx) }()
		select {
		case err := <-pinged:
			require.ErrorIs(t, err, context.DeadlineExceeded)
		case <-time.After(10 * time.Second):
			require.FailNow(t, "it waits on")
		}
		cancel()
	}
	require.Equal(t, 1, running("amqp091-go.(*Channel).open("), "of the connection that is asked first")
	release()
	require.NoError(t, broker.Ping(t.Context()))
}

// A server that reads nothing any more, and lives, does not keep a publish that must open
// its channel or declare something longer than PublishTimeout; nor do those that gave up
// add up, or keep the broker from closing. When it reads on, publishes go on.
func TestPublishesToSilentServer(t *testing.T) {
	config := rabbitmq.Config{PublishTimeout: 300 * time.Millisecond, Heartbeat: time.Hour, Channels: 1}
	waits := func(t *testing.T, publish func() error) {
		t.Helper()
		published := make(chan error, 1)
		go func() { published <- publish() }()
		select {
		case err := <-published:
			require.Error(t, err)
		case <-time.After(20 * time.Second):
			require.FailNow(t, "it waits on")
		}
	}
	t.Run("it reads on", func(t *testing.T) {
		broker, network := silenceable(t, config)
		known, unknown := newTopic(t), newTopic(t)
		subscribe(t, broker, known, nil)
		require.NoError(t, broker.Publisher().Publish(known, newMessage("before")))
		release := network.holdFirst()
		t.Cleanup(release)
		for range 3 {
			waits(t, func() error { return broker.Publisher().Publish(unknown, newMessage("declares")) })
			waits(t, func() error { return broker.Publisher().Publish(known, newMessage("opens")) })
		}
		require.LessOrEqual(t, running("amqp091-go.(*Channel).open("), 1)
		release()
		require.Eventually(t, func() bool { return broker.Publisher().Publish(known, newMessage("after")) == nil }, 30*time.Second, 10*time.Millisecond)
	})
	t.Run("the broker closes", func(t *testing.T) {
		broker, network := silenceable(t, config)
		topic := newTopic(t)
		messages := subscribe(t, broker, topic, func(s *adapters.Subscription) { s.MaxDeliveries = 1 })
		require.NoError(t, broker.Publisher().Publish(topic, newMessage("poison")))
		poison := receive(t, messages)
		release := network.holdFirst()
		t.Cleanup(release)
		poison.Nack()
		waits(t, func() error { return broker.Publisher().Publish(newTopic(t), newMessage("declares")) })
		closed := make(chan error, 1)
		go func() { closed <- broker.Close() }()
		select {
		case <-closed: // the server may have said no goodbye
		case <-time.After(60 * time.Second):
			require.FailNow(t, "it does not close")
		}
	})
}
