package acceptance_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqs"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
)

const (
	roleConsumer = "consumer"
	// lease is how long a message, and an event in the ledger, stays with a
	// consumer that gives no sign of life.
	lease = 2 * time.Second
	// metaCopy tells the copies that the producer sent apart.
	metaCopy = "copy"
)

var errRefused = errors.New("refused")

// consumer is a process that makes an output of each event. It is its own argument.
type consumer struct {
	Endpoint, In, Out, Folder, Name string
	FIFO                            bool
	// Ledger keeps the marks: see openLedger. "": a control run, without any.
	Ledger string
	// Lease is the consumer's. Default lease.
	Lease time.Duration
	// Takes is the handler's working time; with Once, only until it has returned for the
	// first time.
	Takes time.Duration
	Once  bool
	// FailAttempts is how often the handler fails on a message.
	FailAttempts int
	// FailPublishes is how many publishes fail after the handler has succeeded.
	FailPublishes int64
	// Deaf: what the adapter learns of a message's loss does not reach its handler, so
	// that the ledger alone can refuse to commit.
	Deaf bool
	// Silent: its renewals of messages never reach the server.
	Silent bool
	// Long: see withoutAttempts.
	Long bool
	// Short: receives do not wait. Where connections die, a receive that waits is
	// repeated while the server still holds it, and a FIFO queue of ElasticMQ does not
	// survive that: it gives the messages to both, and should those of the one it answered
	// first be deleted before it comes to the other, the queue forgets everything it has.
	Short bool
}

// note is what a consumer tells the harness: a handler has begun, or a delivery has
// failed.
type note struct {
	// Begun is the event whose handler begins; else Err is that of a delivery.
	Begun string
	Err   string
}

func deliveriesFile(folder string) string { return filepath.Join(folder, "deliveries.db") }

func queueConfig(endpoint string, fifo bool) sqs.Config {
	return sqs.Config{
		Endpoint: endpoint, Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""), FIFO: fifo, Create: true,
		VisibilityTimeout: lease, WaitTime: time.Second, Timeout: 3 * time.Second, Logger: quiet,
	}
}

func consumerMain(ctx context.Context, args []string) int {
	var c consumer
	err := json.Unmarshal([]byte(args[0]), &c)
	if err == nil {
		err = c.run(ctx)
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (c consumer) run(ctx context.Context) (err error) {
	deliveries, err := effects.Open(ctx, deliveriesFile(c.Folder))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, deliveries.Close()) }()
	config := queueConfig(c.Endpoint, c.FIFO)
	if c.Lease > 0 {
		config.VisibilityTimeout = c.Lease
		config.Timeout = c.Lease // an answer that a busy machine delays is not a failure
	}
	if c.Silent {
		config.HTTPClient = silent{&http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}}
	}
	if c.Short {
		config.WaitTime = -1
	}
	if c.Long {
		config.Workers = 2 // fewer polls, which bring more
		config.HTTPClient = withoutAttempts{&http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}}
	}
	var broker *sqs.Broker
	err = patiently(ctx, func() (err error) {
		broker, err = sqs.Open(ctx, config)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	strategy := dedup.Strategy(dedup.Plain{Publisher: broker.Publisher()})
	if c.Ledger != "" {
		ledger, closeLedger, err := openLedger(ctx, c.Ledger, c.Folder, c.In)
		if err != nil {
			return err
		}
		defer closeLedger()
		over := dedup.NewLedgerStrategy(ledger, broker.Publisher(), dedup.LedgerOptions{Lease: config.VisibilityTimeout, Logger: quiet})
		defer over.Close()
		strategy = over
	}
	c.armFailures()
	var stop func() error
	err = patiently(ctx, func() (err error) {
		stop, err = serve(ctx, broker, c.In, c.Out, strategy, c.handler(ctx), c.record(ctx, deliveries))
		return err
	})
	if err != nil {
		return err
	}
	if err := fault.Ready(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	return stop()
}

// patiently starts something as a supervisor would: it is tried again while the server is
// away.
func patiently(ctx context.Context, start func() error) (err error) {
	for range 20 {
		if err = start(); err == nil || ctx.Err() != nil {
			return err
		}
		<-time.After(200 * time.Millisecond)
	}
	return err
}

// armFailures lets the first publishes fail.
func (c consumer) armFailures() {
	if c.FailPublishes == 0 {
		return
	}
	var hits atomic.Int64
	failpoint.Arm(failpoint.BeforePublish, func() error {
		if hits.Add(1) <= c.FailPublishes {
			return errRefused
		}
		return nil
	})
}

// record counts what was delivered, whether or not it gets past the deduplication,
// and tells the harness of errors.
func (c consumer) record(ctx context.Context, deliveries *sql.DB) message.HandlerMiddleware {
	return func(handle message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			delivery := fault.Delivery{ID: msg.Metadata.Get(dedup.MetaEventID), Consumer: c.Name, Attempt: adapters.DeliveryFrom(msg.Context()).Attempt}
			var err error
			if delivery.Copy, err = strconv.Atoi(msg.Metadata.Get(metaCopy)); err != nil {
				return nil, err
			}
			if err := effects.InsertDelivery(context.WithoutCancel(msg.Context()), deliveries, delivery); err != nil {
				return nil, err
			}
			if c.Deaf {
				msg.SetContext(context.WithoutCancel(msg.Context()))
			}
			outputs, err := handle(msg)
			if err != nil {
				_ = fault.Emit(ctx, note{Err: err.Error()})
			}
			return outputs, err
		}
	}
}

func (c consumer) handler(ctx context.Context) message.HandlerFunc {
	var handled atomic.Int64
	return func(msg *message.Message) ([]*message.Message, error) {
		var event fault.Event
		if err := json.Unmarshal(msg.Payload, &event); err != nil {
			return nil, err
		}
		_ = fault.Emit(ctx, note{Begun: event.ID})
		if handled.Load() == 0 || !c.Once {
			<-time.After(c.Takes) // work that knows nothing of contexts
		}
		handled.Add(1)
		if adapters.DeliveryFrom(msg.Context()).Attempt <= c.FailAttempts {
			return nil, errRefused
		}
		output := message.NewMessage(watermill.NewUUID(), msg.Payload)
		output.Metadata.Set(dedup.MetaKey, event.Key)
		if c.Ledger == "" { // a consumer without Hapax draws a new ID every time, which no queue sees through
			output.Metadata.Set(dedup.MetaOutputID, output.UUID)
		}
		return message.Messages{output}, nil
	}
}

// serve runs a Router with the deduplicating middleware around handle.
func serve(ctx context.Context, broker *sqs.Broker, in, out string, strategy dedup.Strategy, handle message.HandlerFunc, outside ...message.HandlerMiddleware) (stop func() error, err error) {
	subscriber, err := broker.Subscriber(adapters.Subscription{
		Group: in, Window: 50, RedeliveryDelay: 20 * time.Millisecond, DrainTimeout: 3 * time.Second, MaxDeliveries: -1,
	})
	if err != nil {
		return nil, err
	}
	middleware, err := dedup.New(dedup.Config{Scope: dedup.Scope{Service: "acceptance", Handler: in}, Strategy: strategy, InFlightWait: time.Second})
	if err != nil {
		return nil, err
	}
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		return nil, err
	}
	router.AddHandler(in, in, subscriber, out, broker.Publisher(), handle).AddMiddleware(append(outside, middleware.Wrap)...)
	ended := make(chan error, 1)
	go func() { ended <- router.Run(context.WithoutCancel(ctx)) }()
	select {
	case <-router.Running():
	case err := <-ended:
		return nil, err
	}
	return func() error { return errors.Join(router.Close(), <-ended) }, nil
}
