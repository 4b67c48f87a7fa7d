package bench

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/adapters/sqs"
	"github.com/hapax-go/hapax/internal/servers"
)

// Options say what to measure.
type Options struct {
	// Brokers, Cases and Variants select by name; empty means all there are.
	Brokers, Cases, Variants []string
	// Rounds is how many rounds count, after one that does not. Default 5.
	Rounds int
	// Messages of a round. Default 0: as many as the broker handles in about
	// half a second.
	Messages int
	// Payload is the size of every message in bytes. Default 1024.
	Payload int
	// InFlight is how many messages may be unacknowledged. Default 1000.
	InFlight int
	// Duplicates is how many percent of the messages are sent twice. Default 0.
	Duplicates int
	// Seed draws payloads and the order of variants.
	Seed uint64
	// Progress gets a line a round. Default: nobody.
	Progress io.Writer
}

// validate names the flag that is wrong, and what it should be.
func (o *Options) validate() error {
	return errors.Join(
		known("broker", o.Brokers, append([]string{"memory", "sqlite"}, slices.Sorted(maps.Keys(needs))...)),
		started(o.Brokers),
		known("case", o.Cases, cases),
		known("variant", o.Variants, variants),
		between("rounds", o.Rounds, 1, 1000),
		between("messages", o.Messages, 0, 100_000_000),
		between("payload", o.Payload, 0, 16<<20),
		between("in-flight", o.InFlight, 1, 1_000_000),
		between("duplicates", o.Duplicates, 0, 100),
	)
}

// needs says which servers a broker is measured on, where that takes any.
var needs = map[string][]string{
	rabbitmq.Name: {servers.RabbitMQ}, redis.Name: {servers.Redis}, kafka.Name: {servers.Kafka}, sqs.Name: {servers.SQS},
	"outbox": {servers.Postgres, servers.Kafka}, servers.Postgres: {servers.Postgres}, servers.MariaDB: {servers.MariaDB},
}

// started refuses brokers that are known but have no server now.
func started(names []string) error {
	for _, name := range names {
		for _, server := range needs[name] {
			if _, found := servers.Find(server); !found {
				return fmt.Errorf("--broker %s: no %s server found: run `make servers ONLY=%s`, or set %s to its address", name, server, server, servers.Variable(server))
			}
		}
	}
	return nil
}

func known(flag string, names, expected []string) error {
	for _, name := range names {
		if !slices.Contains(expected, name) {
			return fmt.Errorf("--%s %s is not known: expected one of %s", flag, name, strings.Join(expected, ", "))
		}
	}
	return nil
}

func between(flag string, value, low, high int) error {
	if value < low || value > high {
		return fmt.Errorf("--%s is %d: expected %d to %d", flag, value, low, high)
	}
	return nil
}

// wants reports whether a selection includes a name.
func wants(selected []string, name string) bool {
	return len(selected) == 0 || slices.Contains(selected, name)
}
