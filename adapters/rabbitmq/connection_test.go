package rabbitmq_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/adapters/rabbitmq/plain"
	"github.com/hapax-go/hapax/internal/servers"
)

// before serves connections in front of the server, and returns the URL of it.
// pass copies what the server says.
func before(t *testing.T, scheme string, listen func(net.Listener) net.Listener, pass func(to io.Writer, from io.Reader)) string {
	t.Helper()
	address := servers.Require(t, servers.RabbitMQ)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	listener = listen(listener)
	ended := make(chan struct{})
	t.Cleanup(func() { _ = listener.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", address.Hosts[0])
			if err != nil {
				_ = client.Close()
				continue
			}
			go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
			go func() { pass(client, server); _ = client.Close() }()
		}
	}()
	parsed, err := url.Parse(address.URL)
	require.NoError(t, err)
	parsed.Scheme, parsed.Host = scheme, listener.Addr().String()
	return parsed.String()
}

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

func TestTLS(t *testing.T) {
	certificate, authorities := certificate(t)
	address := before(t, "amqps", func(l net.Listener) net.Listener {
		return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	}, func(to io.Writer, from io.Reader) { _, _ = io.Copy(to, from) })

	_, err := rabbitmq.Open(t.Context(), rabbitmq.Config{URL: address, Logger: quiet})
	require.ErrorContains(t, err, "certificate signed by unknown authority")
	require.ErrorContains(t, err, "rabbitmq.tls.ca_file")
	require.NotContains(t, err.Error(), "hapax:hapax")

	broker, err := rabbitmq.Open(t.Context(), rabbitmq.Config{URL: address, TLS: &tls.Config{RootCAs: authorities}, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = broker.Close() })
	topic := newTopic(t)
	messages := subscribe(t, broker, topic, nil)
	require.NoError(t, broker.Publisher().Publish(topic, newMessage("secret")))
	receive(t, messages).Ack()
	broker.Cut() // the next connection is encrypted as well
	require.Eventually(t, func() bool { return broker.Publisher().Publish(topic, newMessage("again")) == nil }, 10*time.Second, 10*time.Millisecond)
	receive(t, messages).Ack()
}

// certificate is one for 127.0.0.1, and the pool that trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(raw)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, pool
}

// The server says that it is out of memory: health tells, publishes wait and then
// fail with the reason, acknowledgements get through; then all goes on. The words
// are put between the server's own, frame by frame.
func TestBlockedIsVisible(t *testing.T) {
	var mu sync.Mutex
	var clients []chan []byte // what to say, by connection
	say := func(frame []byte) {
		mu.Lock()
		defer mu.Unlock()
		for _, words := range clients {
			words <- frame
		}
	}
	network := &silences{}
	address := before(t, "amqp", network.listen, func(to io.Writer, from io.Reader) {
		frames, words := make(chan []byte), make(chan []byte, 4)
		mu.Lock()
		clients = append(clients, words)
		mu.Unlock()
		go func() {
			defer close(frames)
			eachFrame(from, func(frame []byte) { frames <- frame })
		}()
		for {
			select {
			case frame, open := <-frames:
				if !open {
					return
				}
				_, _ = to.Write(frame)
			case frame := <-words:
				_, _ = to.Write(frame)
			}
		}
	})
	broker, err := rabbitmq.Open(t.Context(), rabbitmq.Config{URL: address, PublishTimeout: 300 * time.Millisecond, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = broker.Close() })
	topic := newTopic(t)
	messages := subscribe(t, broker, topic, nil)
	require.NoError(t, broker.Publisher().Publish(topic, newMessage("before")))
	held := receive(t, messages)
	require.NoError(t, broker.Ping(t.Context()))

	say(method(60, append([]byte{10}, "low memory"...)))
	require.Eventually(t, func() bool { return broker.Ping(t.Context()) != nil }, 10*time.Second, 5*time.Millisecond)
	require.ErrorContains(t, broker.Ping(t.Context()), "low memory")
	require.ErrorContains(t, broker.Publisher().Publish(topic, newMessage("x")), "low memory")
	findings := broker.Check(t.Context())
	require.Equal(t, "rabbitmq-blocked", findings[0].Name)
	release := network.hold() // the server says so even when it reads nothing any more
	require.ErrorContains(t, broker.Ping(t.Context()), "low memory")
	release()
	held.Ack()

	say(method(61, nil))
	require.Eventually(t, func() bool { return broker.Ping(t.Context()) == nil }, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, broker.Publisher().Publish(topic, newMessage("after")))
	got := receive(t, messages)
	require.Equal(t, "uuid-after", got.UUID)
	got.Ack()
}

// eachFrame reads frames to the end.
func eachFrame(from io.Reader, do func(frame []byte)) {
	reader := bufio.NewReader(from)
	for {
		head := make([]byte, 7)
		if _, err := io.ReadFull(reader, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[3:])+1)
		if _, err := io.ReadFull(reader, body); err != nil {
			return
		}
		do(append(head, body...))
	}
}

// One publishing is never confirmed. The library withholds the confirms of all that
// follow it on the channel, so the next one goes over another.
func TestConfirmThatNeverComes(t *testing.T) {
	t.Parallel()
	var swallowed atomic.Bool
	address := before(t, "amqp", func(l net.Listener) net.Listener { return l }, func(to io.Writer, from io.Reader) {
		eachFrame(from, func(frame []byte) {
			confirm := frame[0] == 1 && bytes.Equal(frame[7:11], []byte{0, 60, 0, 80}) // basic.ack
			if !confirm || swallowed.Swap(true) {
				_, _ = to.Write(frame)
			}
		})
	})
	broker, err := rabbitmq.Open(t.Context(), rabbitmq.Config{URL: address, Channels: 1, PublishTimeout: 3 * time.Second, Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = broker.Close() })
	topic := newTopic(t)
	subscribe(t, broker, topic, nil)
	require.ErrorContains(t, broker.Publisher().Publish(topic, newMessage("never confirmed")), "no confirm in time")
	for i := range 3 {
		require.NoError(t, broker.Publisher().Publish(topic, newMessage(fmt.Sprint(i))))
	}
}

// method is a frame of a method of class connection.
func method(number uint16, arguments []byte) []byte {
	var frame bytes.Buffer
	frame.Write([]byte{1, 0, 0})
	_ = binary.Write(&frame, binary.BigEndian, uint32(4+len(arguments)))
	_ = binary.Write(&frame, binary.BigEndian, uint16(10))
	_ = binary.Write(&frame, binary.BigEndian, number)
	frame.Write(arguments)
	frame.WriteByte(0xCE)
	return frame.Bytes()
}

// Virtual hosts are apart, and VHost replaces that of the URL.
func TestVirtualHosts(t *testing.T) {
	server := servers.Require(t, servers.RabbitMQ)
	servers.RequirePart(t, server, "management plugin whose address is known", server.Management != "")
	management := plain.Management(server.Management)
	const name = "hapax/test with spaces"
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	require.NoError(t, management.Recreate(t.Context(), name))
	apart := opened(t, func(c *rabbitmq.Config) { c.VHost = name })
	require.Equal(t, name, apart.VHost())
	topic := newTopic(t)
	here, there := subscribe(t, opened(t, nil), topic, nil), subscribe(t, apart, topic, nil)
	require.NoError(t, apart.Publisher().Publish(topic, newMessage("there")))
	receive(t, there).Ack()
	select {
	case msg := <-here:
		require.Fail(t, "a message crossed", "%v", msg)
	case <-time.After(200 * time.Millisecond):
	}
}

// The consumers of higher priority get the messages while they take them.
func TestPriority(t *testing.T) {
	topic := newTopic(t)
	low, high := opened(t, nil), opened(t, func(c *rabbitmq.Config) { c.Priority = 10 })
	unordered := func(s *adapters.Subscription) { s.Ordering, s.Window = adapters.Unordered, 10 }
	waits := subscribe(t, low, topic, unordered)
	works := subscribe(t, high, topic, unordered)
	for i := range 10 {
		require.NoError(t, low.Publisher().Publish(topic, newMessage(string(rune('a'+i)))))
	}
	held := receive(t, works)
	for range 9 {
		receive(t, works).Ack()
	}
	select {
	case msg := <-waits:
		require.Fail(t, "the consumer of low priority got a message", "%v", msg)
	default:
	}
	held.Ack()
}
