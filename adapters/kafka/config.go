package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// Config configures a Broker.
type Config struct {
	// Brokers are addresses to start from, host:port. Required.
	Brokers []string
	// ClientID names this client in the brokers' logs and quotas. Default
	// "hapax".
	ClientID string
	// Rack lets consumers fetch from a replica in the same rack. Default "":
	// from the leader.
	Rack string
	// TLS encrypts the connections. Default nil: plain TCP.
	TLS *tls.Config
	// SASL authenticates the client. The zero value does not.
	SASL SASL

	// MaxRecords closes a transaction after this many deliveries. Default 500.
	MaxRecords int
	// MaxTime closes a transaction this long after its first delivery. It
	// closes earlier when nothing else is being handled. Default 50ms.
	MaxTime time.Duration
	// TransactionTimeout is when the broker aborts a transaction by itself. It
	// must be shorter than SessionTimeout, so that the transaction of a lost
	// consumer is over when its partitions move. Default 40s, or 9/10 of a
	// SessionTimeout below 45s.
	TransactionTimeout time.Duration
	// SessionTimeout is how long a consumer may be silent before its partitions
	// go to another. Default 45s. With ServerSideGroups the broker's own
	// setting counts, and this one must not be longer.
	SessionTimeout time.Duration
	// RebalanceTimeout is how long a consumer may take to hand over partitions:
	// handlers in flight get two thirds of it to finish. Default 60s.
	RebalanceTimeout time.Duration
	// ServerSideGroups uses the group protocol of KIP-848, for brokers from 4.0
	// on. Default false: the classic protocol, cooperative-sticky.
	ServerSideGroups bool

	// DeliveryTimeout is when Publish gives up outside of transactions, and says that
	// its messages may be published or not. A broker that is away would be waited for
	// without end otherwise, by whoever is to stop, too. Default 20s: longer than a
	// partition is without a leader when its broker dies, and shorter than
	// shutdown.drain_timeout.
	DeliveryTimeout time.Duration

	// Topics gives single topics, by logical name, another name in Kafka than
	// TopicName does.
	Topics map[string]string
	// CreateTopics makes topics that are missing. Default false: a missing
	// topic is an error that names it.
	CreateTopics bool
	// Partitions and Replication are for topics that are made. Default -1: the
	// broker's own defaults.
	Partitions  int32
	Replication int16
	// IDLogReplication is the replication factor of the logs of processed IDs,
	// which are always made when missing. Default: that of their input topic.
	IDLogReplication int16

	// MaxIDMemory bounds the memory for processed IDs of this Broker, in bytes;
	// an ID takes less than 40. A window that needs more is an error at the
	// start of a consumer: nothing is ever forgotten early. Default 1 GiB.
	MaxIDMemory int64
	// MaxPayload is the largest message in bytes, its metadata included. It
	// must not exceed max.message.bytes of the topics. A dead letter may have 8 KiB
	// more, to say why. Default 1,000,000.
	MaxPayload int
	// CommitInterval is how often offsets of messages that were acked outside of
	// a transaction are committed. Default 100ms.
	CommitInterval time.Duration

	// Logger reports rebalances, aborts, restores. Default slog.Default().
	Logger *slog.Logger

	// dial replaces the dialer of the clients; tests pull cables with it.
	dial func(r role) func(ctx context.Context, network, host string) (net.Conn, error)
}

// SASL authenticates a client.
type SASL struct {
	// Mechanism is plain, scram-sha-256, scram-sha-512, oauthbearer, or empty
	// for none.
	Mechanism string
	// Username and Password are for plain and scram.
	Username, Password string
	// Token returns the token for oauthbearer; it is called for each connection.
	Token func(context.Context) (string, error)
}

func or[T comparable](value *T, standard T) {
	if zero := *new(T); *value == zero {
		*value = standard
	}
}

func (c *Config) complete() error {
	or(&c.ClientID, "hapax")
	or(&c.MaxRecords, 500)
	or(&c.MaxTime, 50*time.Millisecond)
	or(&c.SessionTimeout, 45*time.Second)
	or(&c.TransactionTimeout, min(40*time.Second, c.SessionTimeout*9/10))
	or(&c.RebalanceTimeout, 60*time.Second)
	or(&c.DeliveryTimeout, 20*time.Second)
	or(&c.Partitions, -1)
	or(&c.Replication, -1)
	or(&c.MaxIDMemory, 1<<30)
	or(&c.MaxPayload, 1_000_000)
	or(&c.CommitInterval, 100*time.Millisecond)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	switch {
	case len(c.Brokers) == 0:
		return errors.New("configure kafka broker: there are no brokers, expected at least one address such as 127.0.0.1:9092")
	case c.MaxRecords < 0 || c.MaxTime < 0 || c.SessionTimeout < 0 || c.TransactionTimeout < 0 || c.RebalanceTimeout < 0 || c.DeliveryTimeout < 0 || c.CommitInterval < 0 || c.MaxPayload < 0 || c.MaxIDMemory < 0:
		return fmt.Errorf("configure kafka broker: a limit is negative: max records %d, max time %s, session timeout %s, transaction timeout %s, rebalance timeout %s, delivery timeout %s, commit interval %s, max payload %d, max ID memory %d",
			c.MaxRecords, c.MaxTime, c.SessionTimeout, c.TransactionTimeout, c.RebalanceTimeout, c.DeliveryTimeout, c.CommitInterval, c.MaxPayload, c.MaxIDMemory)
	case c.TransactionTimeout >= c.SessionTimeout:
		return fmt.Errorf("configure kafka broker: transaction timeout is %s, expected less than the session timeout of %s: whoever takes over would wait for the transaction of the lost consumer",
			c.TransactionTimeout, c.SessionTimeout)
	case c.MaxTime >= c.TransactionTimeout:
		return fmt.Errorf("configure kafka broker: a transaction may take up to %s and times out after %s: expected it to close long before", c.MaxTime, c.TransactionTimeout)
	}
	_, err := c.SASL.mechanism()
	return err
}
