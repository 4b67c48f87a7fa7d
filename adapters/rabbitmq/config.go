package rabbitmq

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// QueueType is the kind of a queue; it cannot be changed once a queue exists.
type QueueType string

const (
	// Quorum queues are replicated, always durable, and count deliveries.
	Quorum QueueType = "quorum"
	// Classic queues are on one node and know only whether a message was
	// delivered before, not how often.
	Classic QueueType = "classic"
)

// Config says how to reach RabbitMQ and what its queues are like.
type Config struct {
	// URL of the server, amqp:// or amqps://. Required. It is never part of an
	// error or a log line: it carries the password.
	URL string
	// VHost replaces the virtual host of the URL. Empty: that of the URL.
	VHost string
	// TLS encrypts the connection. Nil: only for amqps:// URLs, with defaults.
	TLS *tls.Config

	// QueueType of new queues. Default Quorum.
	QueueType QueueType
	// DeliveryLimit is the limit that a quorum queue itself puts on deliveries:
	// beyond it RabbitMQ moves a message to the dead-letter exchange. Zero: the
	// subscription's MaxDeliveries.
	DeliveryLimit int
	// SingleActiveConsumer gives the queue of a subscription with OrderByKey to
	// one member of the group at a time, so that keys stay in order across
	// members; the others stand by. With OrderByPartition it is always so, with
	// Unordered never. Default off: each member keeps its own messages in order.
	SingleActiveConsumer bool
	// Partitions divides a group's messages among so many queues, by key, when its
	// subscription asks for order. Members share the queues, one member a queue, so
	// that keys stay in order across members which all work. Zero: one queue.
	Partitions int
	// PartitionBy says how messages are dealt to partitions. Default BySlots.
	PartitionBy PartitionBy
	// AllowLimits puts up with queues that have limits, of length, age or deliveries, beyond
	// which they drop messages that nobody has processed. Default off: one that exists
	// with such a limit is refused.
	AllowLimits bool
	// Prefetch is how many unacknowledged messages the server sends ahead, per
	// consumer, at most 65,535. Zero: the subscription's Window.
	Prefetch int
	// Priority of this process's consumers: the server prefers higher ones
	// while they take messages. Default 0.
	Priority int

	// Readers are groups, by topic, that may start after the first message for them
	// was published: the publisher makes their queues first. Default none.
	Readers map[string][]string

	// ConsumerTimeout is the server's consumer_timeout: it closes the channel of
	// a consumer that holds a message longer. Default 30 minutes, as the server's.
	ConsumerTimeout time.Duration
	// ParkAfter: a message without a key whose next attempt is at least so far away
	// waits in a queue of the server, and not in the consumer. Default 10 seconds;
	// negative: only when the consumer timeout leaves no other way.
	ParkAfter time.Duration
	// HandlerTimeout is when a handler's context ends. It is only compared with
	// ConsumerTimeout; see Check. Zero: there is none.
	HandlerTimeout time.Duration
	// DedupWindow is how long the ledger remembers an event. It is only compared
	// with how late RabbitMQ may deliver a copy; see Check. Zero: not compared.
	DedupWindow time.Duration
	// MaxDeliveries is that of the subscriptions to come, negative for no limit. It
	// only counts in the comparison. Zero: a subscription's default.
	MaxDeliveries int
	// MaxPayload is the largest payload in bytes; a dead letter's may be larger, as
	// another program sent it. Default 16 MiB, which every server takes.
	MaxPayload int
	// Channels is how many channels publishes share. Default 2.
	Channels int
	// PublishTimeout bounds a Publish: finding a connection, and waiting for the
	// confirm. Default 20s.
	PublishTimeout time.Duration
	// DialTimeout bounds connecting, with both handshakes. Default 5s.
	DialTimeout time.Duration
	// Heartbeat is the interval at which both sides prove that they live. A peer
	// that is silent for two of them is dead. Default 10s.
	Heartbeat time.Duration
	// Logger is told about lost connections and buried messages. Default
	// slog.Default().
	Logger *slog.Logger
}

// complete fills in the defaults and checks the rest.
func (c *Config) complete() (amqp.URI, error) {
	if c.URL == "" {
		return amqp.URI{}, errors.New("open rabbitmq broker: no url: set rabbitmq.url, such as amqp://user:password@host:5672/")
	}
	uri, err := amqp.ParseURI(c.URL)
	if err != nil {
		// The parser's own words would repeat the URL, and with it the password.
		return amqp.URI{}, errors.New("open rabbitmq broker: rabbitmq.url is not a valid URL: expected amqp://user:password@host:port/vhost, with special characters of user, password and vhost percent-encoded")
	}
	if c.VHost != "" {
		uri.Vhost = c.VHost
	}
	if c.TLS != nil {
		uri.Scheme = "amqps"
		if parsed, err := url.Parse(c.URL); err == nil && parsed.Port() == "" {
			uri.Port = 5671
		}
	}
	if c.QueueType == "" {
		c.QueueType = Quorum
	}
	if c.QueueType != Quorum && c.QueueType != Classic {
		return uri, fmt.Errorf("open rabbitmq broker: queue type is %q, expected quorum or classic", c.QueueType)
	}
	if c.Prefetch < 0 || c.Prefetch > maxPrefetch {
		return uri, fmt.Errorf("open rabbitmq broker: prefetch is %d, expected 0 to %d", c.Prefetch, maxPrefetch)
	}
	if c.PartitionBy == "" {
		c.PartitionBy = BySlots
	}
	switch {
	case c.Partitions < 0 || c.Partitions > slots:
		return uri, fmt.Errorf("open rabbitmq broker: partitions is %d, expected 0 to %d", c.Partitions, slots)
	case c.PartitionBy != BySlots && c.PartitionBy != ByConsistentHash:
		return uri, fmt.Errorf("open rabbitmq broker: partition by is %q, expected %s or %s", c.PartitionBy, BySlots, ByConsistentHash)
	}
	if c.ParkAfter == 0 {
		c.ParkAfter = 10 * time.Second
	}
	for _, field := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&c.ConsumerTimeout, 30 * time.Minute}, {&c.PublishTimeout, 20 * time.Second},
		{&c.DialTimeout, 5 * time.Second}, {&c.Heartbeat, 10 * time.Second},
	} {
		if *field.value <= 0 {
			*field.value = field.fallback
		}
	}
	if c.MaxPayload <= 0 {
		c.MaxPayload = 16 << 20
	}
	if c.Channels <= 0 {
		c.Channels = 2
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return uri, nil
}

// maxPrefetch is what AMQP's 16 bits hold.
const maxPrefetch = 65535

// prefetch is the consumer's prefetch for a window.
func (c *Config) prefetch(window int) int {
	if c.Prefetch > 0 {
		return c.Prefetch
	}
	return min(window, maxPrefetch)
}
