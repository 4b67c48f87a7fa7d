package sqs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqs"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/coalesce"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
	sqliteledger "github.com/hapax-go/hapax/dedup/ledger/sqlite"
	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
	"github.com/hapax-go/hapax/internal/fault/proxy"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// stage is the consumer process that the tests kill: it reads one topic, and makes
// one output of each event. Its description is the child's argument.
type stage struct {
	Endpoint, In, Out, Folder, Name string
	FIFO, Dedup                     bool
}

const roleStage = "stage"

func runStage(ctx context.Context, args []string) int {
	var s stage
	err := json.Unmarshal([]byte(args[0]), &s)
	if err == nil {
		err = s.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (s stage) config() sqs.Config {
	return sqs.Config{
		Endpoint: s.Endpoint, Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""), FIFO: s.FIFO, Create: true,
		VisibilityTimeout: 3 * time.Second, WaitTime: time.Second, Timeout: 3 * time.Second, Logger: slog.New(slog.DiscardHandler),
	}
}

func (s stage) run(ctx context.Context) (err error) {
	deliveries, err := effects.Open(ctx, filepath.Join(s.Folder, "deliveries.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, deliveries.Close()) }()
	db, err := sqldb.OpenSQLite(ctx, filepath.Join(s.Folder, "ledger.db"), sqldb.Normal)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	store, err := sqliteledger.Open(ctx, db, sqliteledger.Config{Window: time.Hour})
	if err != nil {
		return err
	}
	ledger := coalesce.New(store)
	defer func() { err = errors.Join(err, ledger.Close()) }()
	broker, err := sqs.Open(ctx, s.config())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	var strategy dedup.Strategy = dedup.Plain{Publisher: broker.Publisher()}
	if s.Dedup {
		strategy = dedup.NewLedgerStrategy(ledger, broker.Publisher(), dedup.LedgerOptions{Lease: 3 * time.Second})
	}
	handle := func(msg *message.Message) ([]*message.Message, error) {
		var send fault.Send
		if err := json.Unmarshal(msg.Payload, &send.Event); err != nil {
			return nil, err
		}
		delivery := fault.Delivery{ID: send.ID, Consumer: s.Name, Attempt: adapters.DeliveryFrom(msg.Context()).Attempt}
		_, _ = fmt.Sscan(msg.Metadata.Get("copy"), &delivery.Copy)
		if err := effects.InsertDelivery(msg.Context(), deliveries, delivery); err != nil {
			return nil, err
		}
		output := message.NewMessage(watermill.NewUUID(), msg.Payload)
		output.Metadata.Set(dedup.MetaKey, send.Key)
		if !s.Dedup { // a consumer without Hapax draws a new ID every time, which no queue sees through
			output.Metadata.Set(dedup.MetaOutputID, output.UUID)
		}
		return []*message.Message{output}, nil
	}
	stop, err := serve(ctx, broker, s.In, s.Out, strategy, handle)
	if err != nil {
		return err
	}
	if err := fault.Ready(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	err = stop()
	if closer, ok := strategy.(io.Closer); ok {
		err = errors.Join(err, closer.Close())
	}
	return err
}

// serve runs a Router with the deduplicating middleware around handle.
func serve(ctx context.Context, broker *sqs.Broker, in, out string, strategy dedup.Strategy, handle message.HandlerFunc) (stop func() error, err error) {
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: in, Window: 50, DrainTimeout: 3 * time.Second, MaxDeliveries: -1})
	if err != nil {
		return nil, err
	}
	middleware, err := dedup.New(dedup.Config{Scope: dedup.Scope{Service: "test", Handler: in}, Strategy: strategy})
	if err != nil {
		return nil, err
	}
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	router.AddHandler(in, in, subscriber, out, broker.Publisher(), handle).AddMiddleware(middleware.Wrap)
	ended := make(chan error, 1)
	go func() { ended <- router.Run(context.WithoutCancel(ctx)) }()
	select {
	case <-router.Running():
	case err := <-ended:
		return nil, err
	}
	return func() error { return errors.Join(router.Close(), <-ended) }, nil
}

// Three consumers are killed again and again, the network loses a tenth of the
// server's answers, and the producer sends a fifth of the events twice. What the
// next stage makes of the outputs is one effect for each event.
func TestKilledConsumers(t *testing.T) {
	t.Parallel()
	events, kills := 400, 4
	if os.Getenv("HAPAX_SOAK") == "1" {
		events, kills = 5000, 15
	}
	for _, fifo := range []bool{false, true} {
		t.Run(fmt.Sprint("fifo ", fifo), func(t *testing.T) {
			t.Parallel()
			real := killed(t, fifo, true, events, kills)
			require.NoError(t, real.Err(), "with the ledger")
			control := killed(t, fifo, false, events/4, 2)
			require.Positive(t, control.DuplicateEffects, "without the ledger the same faults must show")
			t.Logf("with the ledger: %+v", real)
		})
	}
}

func killed(t *testing.T, fifo, withDedup bool, events, kills int) fault.Report {
	ctx := t.Context()
	server := local(t)
	network, err := proxy.Listen(server.Endpoint[len("http://"):], 1)
	require.NoError(t, err)
	defer network.Close()
	s := stage{Endpoint: "http://" + network.Addr(), In: newTopic(), Out: newTopic(), Folder: t.TempDir(), FIFO: fifo, Dedup: withDedup}
	direct := s
	direct.Endpoint = server.Endpoint
	broker := open(t, direct.config())
	fleet := fault.NewFleet(func(n int) fault.Command {
		s := s
		s.Name = fmt.Sprint("consumer-", n)
		description, _ := json.Marshal(s)
		command := fault.Command{Name: s.Name, Role: roleStage, Args: []string{string(description)}}
		// The first ones die where it hurts most.
		if points := []failpoint.Point{failpoint.AfterPublish, failpoint.AfterMark, failpoint.BeforeAck}; n <= len(points) {
			command.Failpoints = fmt.Sprintf("%s@%d", points[n-1], 5*n)
		}
		return command
	}, quiet)
	require.NoError(t, fleet.Start(ctx, 3))
	defer fleet.Close() //nolint:errcheck // shut down below

	// The next stage: the effects are the runs of its handler.
	var mu sync.Mutex
	var made []fault.Effect
	strategy := dedup.Strategy(dedup.Plain{Publisher: broker.Publisher()})
	if withDedup {
		ledger := memory.New(memory.Config{Window: time.Hour})
		defer ledger.Close()
		over := dedup.NewLedgerStrategy(ledger, broker.Publisher(), dedup.LedgerOptions{})
		defer over.Close()
		strategy = over
	}
	stop, err := serve(ctx, broker, s.Out, "unused", strategy, func(msg *message.Message) ([]*message.Message, error) {
		var event fault.Event
		if err := json.Unmarshal(msg.Payload, &event); err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		made = append(made, fault.Effect{ID: event.ID, Key: event.Key, Seq: event.Seq})
		return nil, nil
	})
	require.NoError(t, err)

	network.DropResponses(proxy.Drop{Fraction: 0.1})
	var sent fault.Sent
	random := time.NewTicker(400 * time.Millisecond)
	defer random.Stop()
	workload := fault.Workload{Seed: 7, Events: events, Keys: 32, Duplicates: 0.2}
	for send := range workload.Sends() {
		payload, err := json.Marshal(send.Event)
		require.NoError(t, err)
		msg := message.NewMessage(watermill.NewUUID(), payload)
		msg.Metadata = message.Metadata{dedup.MetaEventID: send.ID, dedup.MetaKey: send.Key, "copy": fmt.Sprint(send.Copy)}
		require.NoError(t, broker.Publisher().Publish(s.In, msg))
		sent.Record(send.Event, fault.SendOK)
		select {
		case <-random.C:
			if kills > 0 {
				kills--
				require.NoError(t, fleet.Kill(ctx, uint64(kills)))
			}
		default:
		}
	}
	for ; kills > 0; kills-- {
		<-random.C
		require.NoError(t, fleet.Kill(ctx, uint64(kills)))
	}
	require.NoError(t, network.Heal())
	draining, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	observation := fault.Observation{Expected: sent.Expected(), Unordered: !fifo}
	observation.Left, err = fault.Drain(draining, func(ctx context.Context) (map[string]int64, error) {
		left := map[string]int64{}
		for _, topic := range []string{s.In, s.Out} {
			backlog, err := broker.Backlog(ctx, topic)
			if err != nil {
				return nil, err
			}
			left[topic] = backlog.Waiting + backlog.InFlight + backlog.Delayed
		}
		return left, nil
	})
	require.NoError(t, err)
	observation.Counts = fleet.Counts()
	require.NoError(t, fleet.Shutdown(20*time.Second))
	require.NoError(t, stop())
	deliveries, err := effects.Open(ctx, filepath.Join(s.Folder, "deliveries.db"))
	require.NoError(t, err)
	defer deliveries.Close()
	observation.Deliveries, err = effects.ReadDeliveries(ctx, deliveries)
	require.NoError(t, err)
	require.Positive(t, network.Stats().Dropped)
	observation.Effects = made
	return fault.Check(observation)
}
