package kafka

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/hapax-go/hapax/dedup"
)

// Cables are the connections of a Broker, for tests that pull them.
type Cables struct {
	mu    sync.Mutex
	cut   map[role]bool
	conns map[role][]net.Conn
}

var errCut = errors.New("the cable is cut")

// WithCables makes a config's connections go through cables.
func WithCables(config *Config) *Cables {
	cables := &Cables{cut: map[role]bool{}, conns: map[role][]net.Conn{}}
	config.dial = func(r role) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, network, host string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, host)
			if err != nil {
				return nil, err
			}
			cables.mu.Lock()
			defer cables.mu.Unlock()
			if cables.cut[r] {
				return nil, errors.Join(errCut, conn.Close())
			}
			cables.conns[r] = append(cables.conns[r], conn)
			return conn, nil
		}
	}
	return cables
}

func (c *Cables) pull(roles ...role) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range roles {
		c.cut[r] = true
		for _, conn := range c.conns[r] {
			_ = conn.Close()
		}
		c.conns[r] = nil
	}
}

// PullAll cuts a Broker off, as if its process were dead.
func (c *Cables) PullAll() { c.pull(roleConsumer, roleProducer, roleReader, roleShared) }

// PullGroup stops heartbeats, as a long pause would.
func (c *Cables) PullGroup() { c.pull(roleConsumer) }

// Through makes connections to brokers go to other addresses: those of proxies.
func Through(config *Config, addresses map[string]string) {
	config.dial = func(role) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, network, address string) (net.Conn, error) {
			if through, ok := addresses[address]; ok {
				address = through
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	}
}

// BeforeReading calls a function before the log of processed IDs is first read: its
// extent was found out by then.
func BeforeReading(config *Config, do func()) {
	once := sync.OnceFunc(do)
	config.dial = func(r role) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, network, address string) (net.Conn, error) {
			if r == roleReader {
				once()
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	}
}

// LogOf is what a consumer logs of the events that it has processed.
func LogOf(scope dedup.Scope, events ...string) []byte {
	var entries []*dedup.Entry
	for _, event := range events {
		entries = append(entries, &dedup.Entry{ID: dedup.NewID(scope, event)})
	}
	return appendIDs(nil, entries)
}

// Admin is kadm.NewClient, for tests outside of the package.
var Admin = kadm.NewClient

// Buffered is how many messages are being published outside of transactions.
func Buffered(b *Broker) int64 { return b.client.BufferedProduceRecords() }
