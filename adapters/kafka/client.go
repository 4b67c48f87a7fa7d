package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// role says what a client is for.
type role string

const (
	roleShared   role = "shared"   // plain publishing and administration
	roleConsumer role = "consumer" // a member of a group
	roleProducer role = "producer" // the transactions of a member
	roleReader   role = "reader"   // reads logs of processed IDs
)

func (s SASL) mechanism() (sasl.Mechanism, error) {
	switch s.Mechanism {
	case "":
		return nil, nil
	case "plain":
		return plain.Auth{User: s.Username, Pass: s.Password}.AsMechanism(), nil
	case "scram-sha-256":
		return scram.Auth{User: s.Username, Pass: s.Password}.AsSha256Mechanism(), nil
	case "scram-sha-512":
		return scram.Auth{User: s.Username, Pass: s.Password}.AsSha512Mechanism(), nil
	case "oauthbearer":
		if s.Token == nil {
			return nil, fmt.Errorf("configure kafka broker: SASL mechanism oauthbearer has no token")
		}
		return oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
			token, err := s.Token(ctx)
			return oauth.Auth{Token: token}, err
		}), nil
	default:
		return nil, fmt.Errorf("configure kafka broker: SASL mechanism is %q, expected plain, scram-sha-256, scram-sha-512 or oauthbearer", s.Mechanism)
	}
}

// newClient opens a client with what all roles share.
func (c *Config) newClient(r role, options ...kgo.Opt) (*kgo.Client, error) {
	// Offsets are committed by name: the versions that name topics by ID would
	// commit to nothing when an ID is missing.
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(kmsg.TxnOffsetCommit.Int16(), 5)
	versions.SetMaxKeyVersion(kmsg.OffsetCommit.Int16(), 9)
	all := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(c.ClientID),
		kgo.SoftwareNameAndVersion("hapax", "1"),
		kgo.MaxVersions(versions),
		kgo.DisableClientMetrics(),
		// The defaults suit clusters where a topic appears now and then; tests
		// and first starts make one and use it at once.
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.WithLogger(clientLog{c.Logger.With("client", string(r))}),
	}
	if mechanism, err := c.SASL.mechanism(); err != nil {
		return nil, err
	} else if mechanism != nil {
		all = append(all, kgo.SASL(mechanism))
	}
	switch {
	case c.dial != nil:
		all = append(all, kgo.Dialer(c.dial(r)))
	case c.TLS != nil:
		all = append(all, kgo.DialTLSConfig(c.TLS))
	}
	return kgo.NewClient(append(all, options...)...)
}

// producing is what both kinds of producer share. letters are the topics, by their Kafka
// names, that dead letters go to.
func (c *Config) producing(r role, letters *sync.Map) []kgo.Opt {
	return []kgo.Opt{
		kgo.RecordPartitioner(partitioner),
		kgo.ProducerBatchMaxBytesFn(func(topic string) int32 {
			limit := int32(c.MaxPayload) + batchOverhead
			if _, are := letters.Load(topic); are {
				limit += letterRoom
			}
			return limit
		}),
		// Existence of a topic is checked before the first record to it; what
		// is missed here was deleted just now.
		kgo.UnknownTopicRetries(4),
		kgo.MaxBufferedRecords(100_000),
	}
}

// newPlainProducer opens a client that publishes outside of transactions. What it has may be
// given up while a request is on its way and nobody knows its outcome: the callers publish
// again, under the same event IDs.
func (c *Config) newPlainProducer(letters *sync.Map, linger time.Duration) (*kgo.Client, error) {
	return c.newClient(roleShared, append(c.producing(roleShared, letters), kgo.ProducerLinger(linger), kgo.AllowIdempotentProduceCancellation())...)
}

// batchOverhead is what a batch of one record takes besides its key, headers and
// value.
const batchOverhead = 1024

// letterRoom is how much larger than its event a dead letter may be: it says why as well,
// with an error and a stack that handlers bound.
const letterRoom = 8 << 10

// clientLog passes what franz-go has to say on: its warnings are about single
// requests that it retries, so they are debugging here.
type clientLog struct{ logger *slog.Logger }

func (l clientLog) Level() kgo.LogLevel {
	if l.logger.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelError
}

func (l clientLog) Log(level kgo.LogLevel, text string, pairs ...any) {
	to := slog.LevelDebug
	if level == kgo.LogLevelError {
		to = slog.LevelWarn
	}
	l.logger.Log(context.Background(), to, "kafka client: "+text, pairs...)
}
