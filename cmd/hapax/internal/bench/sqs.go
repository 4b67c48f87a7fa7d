package bench

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/errgroup"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqs"
	"github.com/hapax-go/hapax/adapters/sqs/plain"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/coalesce"
	sqliteledger "github.com/hapax-go/hapax/dedup/ledger/sqlite"
	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// sqsWorkers is how many receives, and how many batches of sends and deletes, run
// at once, in the loop by hand as in the adapter.
const sqsWorkers = 4

// sqsBrokers measures standard queues, where there is an SQS-compatible server.
// Every round has queues of its own, filled before the clock starts.
func sqsBrokers() []Broker {
	server, found := servers.Find(servers.SQS)
	if !found {
		return nil
	}
	open := func(lane sqsLane) func(context.Context, Env) (Lane, error) {
		return func(_ context.Context, env Env) (Lane, error) {
			lane := lane
			lane.env, lane.endpoint = env, server.URL
			// Text of the same size: what is not text takes a third more room
			// in SQS, and the others would not send it whole.
			lane.env.Payload = []byte(base64.StdEncoding.EncodeToString(env.Payload))[:len(env.Payload)]
			return &lane, nil
		}
	}
	return []Broker{{
		Name:     sqs.Name,
		Messages: 12_000, // filling and emptying the window of a thousand takes a part of a short round
		Variants: []Variant{
			{Name: Raw, Open: open(sqsLane{consume: (*sqsLane).byHand})},
			{Name: Watermill, Fewer: 10, Open: open(sqsLane{consume: (*sqsLane).official})},
			{Name: Hapax, Open: open(sqsLane{consume: (*sqsLane).hapax})},
			{Name: HapaxDedup, Once: true, Open: open(sqsLane{consume: (*sqsLane).hapax, dedup: true})},
		},
		Notes: []string{
			"sqs: raw is a loop by hand on the SDK: 4 workers, each receives 10, sends 10 and deletes 10. watermill is the official watermill-aws in the same Router. hapax-dedup keeps its marks in a ledger in a SQLite file. All run against an emulator, whose requests cost far more of this machine than of Amazon's.",
		},
	}}
}

// sqsLane runs one way to consume.
type sqsLane struct {
	env      Env
	endpoint string
	dedup    bool
	consume  func(*sqsLane, context.Context, *sqsRound) error
}

// sqsRound is one round's connections.
type sqsRound struct {
	broker *sqs.Broker
	ends   *plain.Ends
	gone   *deletes
	watch  *watch
	load   Load
	meter  *Meter
}

// Close implements Lane.
func (l *sqsLane) Close() error { return nil }

// Round implements Lane.
func (l *sqsLane) Round(ctx context.Context, load Load, meter *Meter) (counts Counts, err error) {
	defer os.RemoveAll(l.env.Folder)
	if err := os.Mkdir(l.env.Folder, 0o755); err != nil {
		return counts, fmt.Errorf("create folder for a round: %w", err)
	}
	config := plain.Emulator(l.endpoint)
	config.QueuePrefix = fmt.Sprintf("bench-%x-", time.Now().UnixNano())
	// The emulator now and then hides what it has told nobody: not for long.
	config.VisibilityTimeout = 10 * time.Second
	config.WaitTime, config.Workers, config.Logger = time.Second, sqsWorkers, quiet
	r := &sqsRound{gone: newDeletes(load.Deliveries()), watch: &watch{produce: l.env.Produce}, load: load, meter: meter}
	defer r.gone.CloseIdleConnections()
	config.HTTPClient = r.gone
	if r.ends, err = plain.Open(ctx, config); err != nil {
		return counts, err
	}
	if r.broker, err = sqs.Open(ctx, config); err != nil {
		return counts, err
	}
	var topics []string // whose queues there are
	defer func() {
		// Polls of a queue that is deleted are never answered.
		err = errors.Join(err, r.broker.Close(), r.ends.Delete(context.WithoutCancel(ctx), topics...))
	}()
	for _, name := range []string{topic, outputs} {
		if _, err := r.broker.Backlog(ctx, name); err != nil { // creates the queue
			return counts, err
		}
		topics = append(topics, name)
	}
	if load.pace == nil {
		if err := publish(ctx, r.broker.Publisher(), load, l.env.Payload); err != nil {
			return counts, err
		}
	}
	if err := l.consume(l, ctx, r); err != nil {
		return counts, r.watch.because(err)
	}
	counts.Handled = int(r.watch.handled.Load())
	backlog, err := r.broker.Backlog(ctx, outputs)
	counts.Outputs = int(backlog.Waiting)
	return counts, err
}

func (l *sqsLane) hapax(ctx context.Context, r *sqsRound) (err error) {
	subscriber, err := r.broker.Subscriber(adapters.Subscription{Group: topic, Window: l.env.InFlight})
	if err != nil {
		return err
	}
	publisher := r.broker.Publisher()
	strategy := dedup.Strategy(dedup.Plain{Publisher: publisher})
	if l.dedup {
		db, err := sqldb.OpenSQLite(ctx, filepath.Join(l.env.Folder, "ledger.db"), sqldb.Normal)
		if err != nil {
			return err
		}
		defer db.Close()
		store, err := sqliteledger.Open(ctx, db, sqliteledger.Config{Window: time.Hour})
		if err != nil {
			return err
		}
		ledger := coalesce.New(store)
		defer ledger.Close()
		strategy = dedup.NewLedgerStrategy(ledger, publisher, dedup.LedgerOptions{Logger: quiet})
	}
	return l.router(ctx, route{subscriber: subscriber, publisher: publisher, strategy: strategy, watch: r.watch}, r)
}

func (l *sqsLane) official(ctx context.Context, r *sqsRound) error {
	subscriber, err := r.ends.Subscriber()
	if err != nil {
		return err
	}
	publisher, err := r.ends.Publisher()
	if err != nil {
		return err
	}
	return l.router(ctx, route{subscriber: subscriber, publisher: publisher, watch: r.watch}, r)
}

// router measures a Router, from its start until its last delete.
func (l *sqsLane) router(ctx context.Context, route route, r *sqsRound) error {
	r.meter.Start()
	r.watch.begin(r.load)
	router, err := startRouter(ctx, route)
	if err != nil {
		return err
	}
	if r.load.pace != nil {
		err = publish(ctx, r.broker.Publisher(), r.load, l.env.Payload)
	}
	if err == nil {
		select {
		case <-r.gone.all:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	r.meter.Stop() // closing waits for the last receives to time out
	return errors.Join(err, router.Close())
}

// deletes counts the messages that are deleted, whoever does it: then they are done
// with, outputs and all.
type deletes struct {
	*http.Client
	left atomic.Int64
	all  chan struct{} // closed when none is left
}

func newDeletes(n int) *deletes {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 256
	d := &deletes{Client: &http.Client{Transport: transport}, all: make(chan struct{})}
	d.left.Store(int64(n))
	return d
}

// Do implements aws.HTTPClient.
func (d *deletes) Do(request *http.Request) (*http.Response, error) {
	if !strings.Contains(request.Header.Get("X-Amz-Target"), ".DeleteMessage") {
		return d.Client.Do(request)
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	request.Body = io.NopCloser(bytes.NewReader(body))
	response, err := d.Client.Do(request)
	if err == nil && response.StatusCode == http.StatusOK {
		n := int64(bytes.Count(body, []byte(`"ReceiptHandle"`)))
		if left := d.left.Add(-n); left <= 0 && left+n > 0 {
			close(d.all)
		}
	}
	return response, err
}

func (l *sqsLane) byHand(ctx context.Context, r *sqsRound) error {
	loop := plain.Loop{
		In: topic, Out: outputs, Workers: sqsWorkers, Produce: l.env.Produce, Total: r.load.Deliveries(),
		Handle: func(uuid string) { _, _ = r.watch.handle(message.NewMessage(uuid, nil)) },
		Done:   func(uuid string) { r.load.pace.settled(indexOf(uuid)) },
	}
	r.meter.Start()
	r.watch.begin(r.load)
	both, shared := errgroup.WithContext(ctx)
	if r.load.pace != nil {
		both.Go(func() error { return publish(shared, r.broker.Publisher(), r.load, l.env.Payload) })
	}
	both.Go(func() error { return r.ends.Run(shared, loop) })
	err := both.Wait()
	r.meter.Stop()
	return err
}
