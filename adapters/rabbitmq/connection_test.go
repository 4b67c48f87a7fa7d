package rabbitmq_test

import (
	"bufio"
	"bytes"
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
