package rabbitmq

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	amqp "github.com/rabbitmq/amqp091-go"
)

// link is a connection that is made anew when it was lost, by whoever needs it
// next. A broker has two: when RabbitMQ runs out of memory or disk it stops
// reading from connections that publish, and acknowledgements must still get
// through.
type link struct {
	name   string
	uri    amqp.URI
	config amqp.Config
	dial   time.Duration
	logger *slog.Logger

	// turn is held while connecting: one attempt at a time serves all callers.
	turn    chan struct{}
	pauses  *backoff.ExponentialBackOff // guarded by turn
	retryAt time.Time                   // guarded by turn

	mu      sync.Mutex
	conn    *amqp.Connection
	socket  net.Conn
	blocked string // why the server has blocked the connection; empty: it has not
	trip    *trip  // under way; nil: none
	closed  bool
}

func newLink(name string, uri amqp.URI, config *Config) *link {
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName("hapax " + name)
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = 50*time.Millisecond, 2*time.Second
	return &link{
		name: name, uri: uri, dial: config.DialTimeout, logger: config.Logger,
		config: amqp.Config{Vhost: uri.Vhost, Heartbeat: config.Heartbeat, TLSClientConfig: config.TLS, Properties: properties},
		turn:   make(chan struct{}, 1), pauses: pauses,
	}
}

// get returns the open connection, connecting if there is none. After a failed
// attempt the next waits, a growing time, whoever makes it.
func (l *link) get(ctx context.Context) (*amqp.Connection, error) {
	if conn, err := l.current(); conn != nil || err != nil {
		return conn, err
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("connect to %s: %w", l.address(), context.Cause(ctx))
	}
	if conn, err := l.current(); conn != nil || err != nil {
		return conn, err // another caller connected meanwhile
	}
	select {
	case <-time.After(time.Until(l.retryAt)):
	case <-ctx.Done():
		return nil, fmt.Errorf("connect to %s: %w", l.address(), context.Cause(ctx))
	}
	conn, err := l.connect(ctx)
	if err != nil {
		l.retryAt = time.Now().Add(l.pauses.NextBackOff())
		return nil, err
	}
	l.pauses.Reset()
	return conn, nil
}

func (l *link) current() (*amqp.Connection, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, ErrClosed
	case l.conn != nil && !l.conn.IsClosed():
		return l.conn, nil
	}
	return nil, nil
}

func (l *link) connect(ctx context.Context) (*amqp.Connection, error) {
	var socket net.Conn
	config := l.config
	if config.TLSClientConfig != nil {
		config.TLSClientConfig = config.TLSClientConfig.Clone() // the library sets its server name
	}
	config.Dial = func(network, address string) (net.Conn, error) {
		dialer := net.Dialer{Timeout: l.dial}
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		socket = newSocket(conn)
		// For the handshakes; the library takes it away after them.
		return socket, socket.SetDeadline(time.Now().Add(l.dial))
	}
	conn, err := amqp.DialConfig(l.uri.String(), config)
	if err != nil {
		if socket != nil {
			_ = socket.Close()
		}
		return nil, l.explain(err)
	}
	blockings := conn.NotifyBlocked(make(chan amqp.Blocking, 1))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = conn.Close()
		return nil, ErrClosed
	}
	l.conn, l.socket, l.blocked = conn, socket, ""
	go l.watch(conn, blockings)
	return conn, nil
}

// watch follows what the server says about blocking, until the connection ends.
func (l *link) watch(conn *amqp.Connection, blockings <-chan amqp.Blocking) {
	for blocking := range blockings {
		l.mu.Lock()
		if l.conn == conn {
			l.blocked = ""
			if blocking.Active {
				l.blocked = cmp.Or(blocking.Reason, "no reason given")
			}
		}
		l.mu.Unlock()
		l.logger.Warn("rabbitmq flow control", "connection", l.name, "blocked", blocking.Active, "reason", blocking.Reason)
	}
}

// blockedBecause is the server's reason for reading no publishes; empty: it does.
func (l *link) blockedBecause() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil || l.conn.IsClosed() {
		return ""
	}
	return l.blocked
}

func (l *link) address() string {
	return fmt.Sprintf("rabbitmq at %s:%d, virtual host %q", l.uri.Host, l.uri.Port, l.uri.Vhost)
}

// explain says what a failed attempt means. The URL stays out of it.
func (l *link) explain(err error) error {
	hint := "is the server up, and the address right?"
	var refused *amqp.Error
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(err, &untrusted):
		hint = "set rabbitmq.tls.ca_file to the authority that signed the server's certificate, and rabbitmq.tls.server_name to a name in it"
	case errors.Is(err, amqp.ErrCredentials):
		hint = "check user and password in rabbitmq.url"
	case errors.Is(err, amqp.ErrVhost), errors.As(err, &refused) && (refused.Code == amqp.NotAllowed || refused.Code == amqp.AccessRefused):
		hint = "does the virtual host exist, and may the user enter it?"
	}
	return fmt.Errorf("connect to %s: %w; %s", l.address(), err, hint)
}

// trip is a question to the server and back.
type trip struct {
	conn *amqp.Connection
	done chan struct{}
	err  error // read after done
}

// ping waits for the server to answer. A server that reads nothing does not answer until
// it reads on or the connection ends, and the library has no way to give up meanwhile. So
// one trip on a connection serves all who ask while it lasts: else each would leave a
// goroutine and a channel behind.
func (l *link) ping(ctx context.Context) error {
	conn, err := l.get(ctx)
	if err != nil {
		return err
	}
	trip := l.travel(conn)
	select {
	case <-trip.done:
		return trip.err
	case <-ctx.Done():
		return fmt.Errorf("no answer from %s: %w", l.address(), context.Cause(ctx))
	}
}

func (l *link) travel(conn *amqp.Connection) *trip {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trip != nil && l.trip.conn == conn {
		return l.trip
	}
	started := &trip{conn: conn, done: make(chan struct{})}
	l.trip = started
	go func() {
		defer close(started.done)
		started.err = onChannel(conn, func(*amqp.Channel) error { return nil })
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.trip == started {
			l.trip = nil
		}
	}()
	return started
}

// close ends the connection for good.
func (l *link) close() error {
	l.mu.Lock()
	l.closed = true
	conn := l.conn
	l.mu.Unlock()
	if conn == nil || conn.IsClosed() {
		return nil
	}
	err := conn.CloseDeadline(time.Now().Add(l.dial))
	if errors.Is(err, amqp.ErrClosed) {
		return nil // it was lost at the same moment
	}
	return err
}

// cut ends the connection as a crash would: the server is told nothing.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.socket != nil {
		_ = l.socket.Close()
	}
}
