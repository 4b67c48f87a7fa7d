package demo

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
)

// lane is one of the two consumers under comparison: its broker, its processes
// and the stores that are counted.
type lane struct {
	name     string
	settings settings
	broker   broker
	config   *config.Config
	open     adapters.Broker
	shop     *sql.DB
	tried    *sql.DB // deliveries
	fleet    *fault.Fleet
	sent     fault.Sent
}

func openLane(ctx context.Context, name string, settings settings, broker broker, log *slog.Logger) (_ *lane, err error) {
	l := &lane{name: name, settings: settings, broker: broker, config: broker.config(settings.folder, name)}
	defer func() {
		if err != nil {
			err = fmt.Errorf("prepare lane %s: %w", name, errors.Join(err, l.close()))
		}
	}()
	if broker.prepare != nil {
		if err = broker.prepare(ctx, l.config); err != nil {
			return nil, err
		}
	}
	if l.open, err = framework.OpenBroker(ctx, l.config, slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	if broker.openShop != nil {
		l.shop, err = broker.openShop(ctx, settings.folder, name)
	} else {
		l.shop, err = effects.Open(ctx, broker.shop(settings.folder, name))
	}
	if err != nil {
		return nil, err
	}
	if l.tried, err = effects.Open(ctx, deliveriesFile(settings.folder, name)); err != nil {
		return nil, err
	}
	l.fleet = fault.NewFleet(l.child, log)
	return l, l.fleet.Start(ctx, settings.consumers)
}

// child describes consumer number n. The first ones die once where it hurts most:
// a plain one when the effect is there and the acknowledgement is not, a Hapax one
// before its commit, and the one that replaces it behind its commit. Kills by
// progress may find nobody at work; these always do: before the plan's first kill
// the consumers share enough messages that one of them reaches its point.
func (l *lane) child(n int) fault.Command {
	w := worker{broker: l.broker.name, lane: l.name, folder: l.settings.folder, name: fmt.Sprintf("%s-%d", l.name, n)}
	command := fault.Command{Name: w.name, Args: w.arguments()}
	consumers := l.settings.consumers
	var point failpoint.Point
	switch {
	case n <= consumers && l.name == lanePlain:
		point = failpoint.BeforeAck // inserted, and not acknowledged
	case n <= consumers:
		point = failpoint.AfterHandle // handled, and not committed
	case n <= 2*consumers && l.name == laneHapax:
		point = failpoint.AfterMark // committed, and the Router not yet told
	default:
		return command
	}
	share := min(max(l.settings.events/(8*consumers), 1), 20)
	command.Failpoints = fmt.Sprintf("%s@%d", point, 1+(l.settings.seed+uint64(n)*7)%uint64(share))
	return command
}

// topicName is what a topic is called at the lane's broker, as the adapter is asked for it.
func topicName(cfg *config.Config, topic string) string {
	return cmp.Or(cfg.Topics[topic].Name, topic)
}

// publish sends to the lane and notes what became of it.
func (l *lane) publish(sends []fault.Send) error {
	messages := make([]*message.Message, len(sends))
	for i, send := range sends {
		msg, err := orderMessage(send)
		if err != nil {
			return err
		}
		messages[i] = msg
	}
	if err := l.open.Publisher().Publish(topicName(l.config, topicOrders), messages...); err != nil {
		return fmt.Errorf("publish orders: %w", err)
	}
	for _, send := range sends {
		l.sent.Record(send.Event, fault.SendOK)
	}
	return nil
}

// strike makes the faults of the plan happen until ctx ends.
func (l *lane) strike(ctx context.Context, log *slog.Logger) error {
	runner := fault.Runner{
		Plan:     l.settings.plan(l.broker.fewKills),
		Fleet:    l.fleet,
		Progress: func(ctx context.Context) (int64, error) { return effects.Progress(ctx, l.shop) },
		Log:      log,
	}
	_, err := runner.Run(ctx)
	return err
}

// judge waits until the lane has drained, stops its consumers and hands what is
// in the stores to the oracle.
func (l *lane) judge(ctx context.Context) (fault.Report, error) {
	observation := fault.Observation{
		Expected: l.sent.Expected(), ExpectOutputs: true, Unordered: l.broker.unordered,
		OutputsMayRepeat: l.broker.repeats && l.name == laneHapax,
	}
	var err error
	if observation.Earlier, err = effects.Read(ctx, l.shop); err != nil {
		return fault.Report{}, err
	}
	draining, cancel := context.WithTimeout(ctx, l.settings.patience)
	defer cancel()
	observation.Left, err = fault.Drain(draining, func(ctx context.Context) (map[string]int64, error) {
		return l.broker.left(ctx, l.config, l.open)
	})
	observation.Counts = l.fleet.Counts()
	if err := errors.Join(err, l.fleet.Shutdown(20*time.Second), l.fleet.Err()); err != nil {
		return fault.Report{}, err
	}
	if observation.Effects, err = effects.Read(ctx, l.shop); err != nil {
		return fault.Report{}, err
	}
	if observation.Deliveries, err = effects.ReadDeliveries(ctx, l.tried); err != nil {
		return fault.Report{}, err
	}
	if observation.Outputs, err = l.broker.outputs(ctx, l.config); err != nil {
		return fault.Report{}, err
	}
	return fault.Check(observation), nil
}

// glance counts for the view, while the lane runs.
func (l *lane) glance(ctx context.Context) (g glance, err error) {
	shipped, err := effects.ReadCount(ctx, l.shop)
	if err != nil {
		return g, err
	}
	tried, err := effects.ReadCount(ctx, l.tried)
	if err != nil {
		return g, err
	}
	counts := l.fleet.Counts()
	return glance{
		Shipped: shipped.Events, Duplicates: shipped.Effects - shipped.Events,
		Deliveries: tried.Deliveries, Kills: counts.Kills, Consumers: l.fleet.Size(),
	}, nil
}

// glance is a lane as the view shows it.
type glance struct {
	Shipped, Duplicates, Deliveries int64
	Kills, Consumers                int
}

func (l *lane) close() error {
	var errs []error
	if l.fleet != nil {
		errs = append(errs, l.fleet.Close())
	}
	for _, db := range []*sql.DB{l.shop, l.tried} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if l.open != nil {
		errs = append(errs, l.open.Close())
		if l.broker.clear != nil { // also when the run was interrupted
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			errs = append(errs, l.broker.clear(ctx, l.config))
		}
	}
	return errors.Join(errs...)
}
