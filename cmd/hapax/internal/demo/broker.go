package demo

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/internal/fault"
)

// broker is what the demo has to know about a broker. A file for each fills it
// in.
type broker struct {
	name string
	// plainBy says whose plain consumer runs on the plain lane.
	plainBy string
	// config is the lane's service, kept in a folder of its own.
	config func(folder, lane string) *config.Config
	// prepare clears what an earlier run of the demo has left at a server; nil:
	// the run's folder holds everything.
	prepare func(ctx context.Context, cfg *config.Config) error
	// clear removes what the lane has made at a server, when its run is over; nil:
	// nothing is there.
	clear func(ctx context.Context, cfg *config.Config) error
	// fewKills: the group misses a dead consumer only after seconds: as many kills
	// as elsewhere would take too long.
	fewKills bool
	// unordered: the broker keeps no order, so none is judged.
	unordered bool
	// repeats: the strategy's outputs are at least once, as the README's table of
	// guarantees says. Copies are counted; one under another event ID than the first
	// is a failure, because the next stage would take it for another request.
	repeats bool
	// plain opens the plain consumer's ends: a subscriber for each stage, and a
	// publisher.
	plain func(ctx context.Context, cfg *config.Config, logger *slog.Logger) (*plainEnds, error)
	// shop is the SQLite file in which the lane's shipping stage writes its rows.
	shop func(folder, lane string) string
	// openShop opens another shop than that; nil: there is none.
	openShop func(ctx context.Context, folder, lane string) (*sql.DB, error)
	// insert writes an effect in a handler's transaction; nil: in SQLite's words.
	insert func(ctx context.Context, tx *sql.Tx, effect fault.Effect) error
	// outputs reads the intermediate topic without the adapter.
	outputs func(ctx context.Context, cfg *config.Config) ([]fault.Effect, error)
	// left counts what the broker still holds for the lane's consumers.
	left func(ctx context.Context, cfg *config.Config, open adapters.Broker) (map[string]int64, error)
}

// plainEnds are a plain consumer's connections.
type plainEnds struct {
	subscribe func(group string) (message.Subscriber, error)
	publisher message.Publisher
	close     func() error
}

// brokers are those the demo can run on.
var brokers = []broker{sqliteBroker, rabbitMQBroker, redisBroker, sqsBroker, sqsFIFOBroker, kafkaBroker}

func brokerNamed(name string) (broker, error) {
	at := slices.IndexFunc(brokers, func(b broker) bool { return b.name == name })
	if at < 0 {
		return broker{}, fmt.Errorf("demo has no broker %q: expected one of %s", name, strings.Join(brokerNames(), ", "))
	}
	return brokers[at], nil
}

func brokerNames() (names []string) {
	for _, broker := range brokers {
		names = append(names, broker.name)
	}
	return names
}
