package dedup_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/memory"
)

func TestMain(m *testing.M) {
	// Watermill's Deduplicator, which the regression test runs, never ends the
	// goroutine that cleans its map.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(
		"github.com/ThreeDotsLabs/watermill/message/router/middleware.(*mapExpiringKeyRepository).cleanOutLoop"))
}

var scope = dedup.Scope{Service: "fulfilment", Handler: "orders"}

// rig is a real Router with one handler behind a middleware, fed by hand: a
// delivery is acknowledged or goes back, as a broker would see it.
type rig struct {
	ledger    dedup.Ledger
	published *publications
	deliver   func(msg *message.Message) (acked bool)
	handle    message.HandlerFunc // replaced by tests before they deliver
	stop      func()
}

// build makes the middleware under test; mutants build a wrong one.
type build func(r *rig) message.HandlerMiddleware

func rightOrder(r *rig) message.HandlerMiddleware {
	return r.middleware(dedup.NewLedgerStrategy(r.ledger, r.published, quiet))
}

var quiet = dedup.LedgerOptions{Lease: time.Minute, Logger: slog.New(slog.DiscardHandler)}

func (r *rig) middleware(strategy dedup.Strategy) message.HandlerMiddleware {
	middleware, err := dedup.New(dedup.Config{Scope: scope, Strategy: strategy, InFlightWait: -1})
	if err != nil {
		panic(err)
	}
	if closer, ok := strategy.(interface{ Close() error }); ok {
		stop := r.stop
		r.stop = func() { stop(); _ = closer.Close() }
	}
	return middleware.Wrap
}

func newRig(build build) *rig { return newRigOn(build, memory.New(memory.Config{})) }

func newRigOn(build build, ledger dedup.Ledger) *rig {
	r := &rig{ledger: ledger, published: &publications{}, stop: func() {}}
	r.handle = func(*message.Message) ([]*message.Message, error) { return nil, nil }
	router := message.NewDefaultRouter(watermill.NopLogger{})
	feed := make(chan *message.Message)
	handler := router.AddHandler("orders", "orders", subscription(feed), "shipments", r.published,
		func(msg *message.Message) ([]*message.Message, error) { return r.handle(msg) })
	handler.AddMiddleware(build(r))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = router.Run(ctx) })
	<-router.Running()
	r.deliver = func(msg *message.Message) bool {
		msg = msg.Copy()
		msg.SetContext(ctx)
		feed <- msg
		select {
		case <-msg.Acked():
			return true
		case <-msg.Nacked():
			return false
		}
	}
	stop := r.stop
	r.stop = func() { close(feed); cancel(); running.Wait(); stop() }
	return r
}

// returns makes the handler return one output and counts its runs.
func (r *rig) returns(payload string) (runs *int) {
	runs = new(int)
	r.handle = func(*message.Message) ([]*message.Message, error) {
		*runs++
		return message.Messages{message.NewMessage("", []byte(payload))}, nil
	}
	return runs
}

func order(id string) *message.Message {
	return message.NewMessage(id, []byte(`{"order":"`+id+`"}`))
}

type subscription chan *message.Message

func (s subscription) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	return s, nil
}
func (s subscription) Close() error { return nil }

// publications is a publisher whose messages are durable once Publish returns.
type publications struct {
	mu       sync.Mutex
	messages []*message.Message
	fail     error
}

func (p *publications) Publish(topic string, messages ...*message.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return p.fail
	}
	p.messages = append(p.messages, messages...)
	return nil
}

func (p *publications) Close() error { return nil }

func (p *publications) failing(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = err
}

func (p *publications) ids() (ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, msg := range p.messages {
		ids = append(ids, msg.Metadata.Get(dedup.MetaEventID))
	}
	return ids
}

// broken wraps a ledger so that tests and mutants can change single calls.
type broken struct {
	dedup.Ledger
	claim    func(entries []*dedup.Entry) error
	complete func(entries []*dedup.Entry) error
	renew    func(entries []*dedup.Entry) error
}

func (b broken) Claim(ctx context.Context, lease time.Duration, entries []*dedup.Entry) error {
	if b.claim != nil {
		return b.claim(entries)
	}
	return b.Ledger.Claim(ctx, lease, entries)
}

func (b broken) Renew(ctx context.Context, lease time.Duration, entries []*dedup.Entry) error {
	if b.renew != nil {
		return b.renew(entries)
	}
	return b.Ledger.Renew(ctx, lease, entries)
}

func (b broken) Complete(ctx context.Context, entries []*dedup.Entry) error {
	if b.complete != nil {
		return b.complete(entries)
	}
	return b.Ledger.Complete(ctx, entries)
}

var errInjected = errors.New("injected")

func expect(ok bool, format string, arguments ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, arguments...)
}

func same(ids []string) bool {
	return len(slices.Compact(slices.Clone(ids))) <= 1
}
