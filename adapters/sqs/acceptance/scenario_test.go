package acceptance_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/sqs"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/proxy"
	"github.com/hapax-go/hapax/internal/servers"
)

// scenario is a run of consumer processes under faults.
type scenario struct {
	consumers int
	workload  fault.Workload
	// spread sends each event so often, each time with another key and as if FIFO's
	// five minutes were over, so that its copies are with several consumers at once.
	// Default 1.
	spread int
	// over is the time in which everything is sent. Default: as fast as it goes.
	over time.Duration
	plan fault.Plan
	// hooks returns the plan's own faults.
	hooks func(*run) map[fault.Action]func(context.Context, fault.Step) error
	// byHandlers: the plan goes by handlers begun, not by effects.
	byHandlers bool
	// network makes the network bad, for consumers and producers, until everything
	// is sent and the faults are over.
	network func(*proxy.Proxy)
	// adapt changes consumer number n; failpoints arms it.
	adapt      func(n int, c *consumer)
	failpoints func(n int) string
	// mild: the faults need not cause redeliveries.
	mild bool
	// apart: consumers start when everything is sent, and outputs are read when the
	// faults are over.
	apart bool
	// forgetful: the server does not keep the order of a FIFO queue.
	forgetful bool
	// long: receives have no attempt IDs; see withoutAttempts.
	long bool
	// ledger is that of the consumers. Default inSQLite.
	ledger string
	// endpoint of a server of the run's own. Default: that of all tests.
	endpoint string
	// within bounds the run, so that one that hangs ends. Default four minutes, which a
	// machine that does many other things may need.
	within time.Duration
}

// run is a scenario under way and, afterwards, what it left.
type run struct {
	scenario
	fifo    bool
	ledger  string // "": a control run
	folder  string
	in, out string

	network  *proxy.Proxy // nil: a good one
	through  string       // the server, as consumers and producers reach it
	producer *sqs.Broker  // through the network
	broker   *sqs.Broker  // not through it
	fleet    *fault.Fleet
	sent     fault.Sent

	mu      sync.Mutex
	begun   []string      // events whose handlers began, in their order
	heard   time.Time     // when the last one began
	silence time.Duration // the longest time without one
	errs    []string      // of the consumers' deliveries
	effects []fault.Effect
	last    time.Time     // of the last effect
	gap     time.Duration // the longest time without one
	slowest time.Duration // the slowest publish

	deliveries []fault.Delivery
	// forgot is how often a queue of the server had forgotten everything before.
	forgot int
}

// kinds runs a test with both kinds of queues.
func kinds(t *testing.T, test func(t *testing.T, fifo bool)) {
	t.Parallel()
	for name, fifo := range map[string]bool{"standard": false, "fifo": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, fifo)
		})
	}
}

// verdict runs the scenario, and as a control run: the control must be found guilty,
// the other must be clean. It returns the latter.
func (s scenario) verdict(t *testing.T, fifo bool) *run {
	t.Helper()
	real, report := s.run(t, fifo, true)
	require.NoError(t, report.Err())
	_, controlled := s.run(t, fifo, false)
	require.NoError(t, fault.Control(controlled))
	return real
}

func (s scenario) run(t *testing.T, fifo, deduplicate bool) (*run, fault.Report) {
	t.Helper()
	if s.within == 0 {
		s.within = 4 * time.Minute
	}
	if s.spread == 0 {
		s.spread = 1
	}
	if s.endpoint == "" {
		s.endpoint = servers.Require(t, servers.SQS).URL
	}
	ctx, cancel := context.WithTimeout(t.Context(), s.within)
	defer cancel()
	r := &run{scenario: s, fifo: fifo, folder: t.TempDir(), in: newTopic(), out: newTopic(), forgot: forgot(t)}
	if deduplicate {
		if r.ledger = s.ledger; r.ledger == "" {
			r.ledger = inSQLite
		}
		prepareLedger(t, r.ledger, r.in)
	}
	started := time.Now()
	r.open(t)
	produced := make(chan error, 1)
	var stop func() error
	if s.apart {
		produced <- r.produce(ctx)
	} else {
		stop = r.readOutputs(t)
	}
	require.NoError(t, r.fleet.Start(ctx, s.consumers))
	if s.network != nil {
		r.mildly()
		s.network(r.network)
	}
	if !s.apart {
		go func() { produced <- r.produce(ctx) }()
	}
	r.strike(ctx, t)
	require.NoError(t, <-produced)
	if s.network != nil {
		require.NoError(t, r.network.Heal())
		r.mildly()
	}
	if s.apart {
		stop = r.readOutputs(t)
	}
	report := r.judge(ctx, t, stop)
	t.Logf("fifo %t, ledger %q, %s: %s: %d events, %d effects, %d deliveries, %d redeliveries, %+v, network %+v; duplicate effects %d, lost %d; longest without an effect %s, slowest publish %s; errors %v",
		fifo, r.ledger, s.plan, time.Since(started).Round(time.Millisecond), report.Events, report.Effects, report.Deliveries, report.Redeliveries,
		report.Counts, r.stats(), report.DuplicateEffects, report.Lost, r.gap.Round(time.Millisecond), r.slowest.Round(time.Millisecond), r.distinctErrors())
	return r, report
}

func newTopic() string { return fmt.Sprintf("accept.%d", dedup.NextToken()) }

func (r *run) open(t *testing.T) {
	t.Helper()
	config := queueConfig(r.endpoint, r.fifo)
	if r.long {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		t.Cleanup(transport.CloseIdleConnections)
		config.HTTPClient = withoutAttempts{&http.Client{Transport: transport}}
	}
	open := func(config sqs.Config) (broker *sqs.Broker) {
		require.NoError(t, patiently(t.Context(), func() (err error) {
			broker, err = sqs.Open(t.Context(), config)
			return err
		}))
		return broker
	}
	r.broker = open(config)
	t.Cleanup(func() { require.NoError(t, r.broker.Close()) })
	if r.scenario.network != nil {
		var err error
		r.network, err = proxy.Listen(strings.TrimPrefix(r.endpoint, "http://"), 1)
		require.NoError(t, err)
		t.Cleanup(r.network.Close)
		config.Endpoint = "http://" + r.network.Addr()
	}
	r.through = config.Endpoint
	config.HTTPClient = laterCopies(t)
	r.producer = open(config)
	t.Cleanup(func() { require.NoError(t, r.producer.Close()) })
	r.fleet = fault.NewFleet(r.child, nil)
	t.Cleanup(func() { require.NoError(t, r.fleet.Close()) })
}

func (r *run) child(n int) fault.Command {
	c := consumer{
		Name: fmt.Sprintf("consumer-%d", n), Endpoint: r.through, In: r.in, Out: r.out,
		Folder: r.folder, FIFO: r.fifo, Ledger: r.ledger, Long: r.long, Short: r.fifo && r.network != nil,
	}
	if r.adapt != nil {
		r.adapt(n, &c)
	}
	description, _ := json.Marshal(c)
	command := fault.Command{Name: c.Name, Role: roleConsumer, Args: []string{string(description)}, OnEvent: r.hear}
	if r.failpoints != nil {
		command.Failpoints = r.failpoints(n)
	}
	return command
}

// hear takes a consumer's notes.
func (r *run) hear(data json.RawMessage) {
	var heard note
	if json.Unmarshal(data, &heard) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if heard.Begun != "" {
		now := time.Now()
		if r.begun = append(r.begun, heard.Begun); len(r.begun) > 1 {
			r.silence = max(r.silence, now.Sub(r.heard))
		}
		r.heard = now
	} else if len(r.errs) < 10_000 {
		r.errs = append(r.errs, heard.Err)
	}
}

// mildly keeps connections from growing old, as a proxy in front of a service does. An
// answer to a client that was killed would stay on its connection for ever.
func (r *run) mildly() { r.network.CutEvery(5*time.Second, 10*time.Second) }

func (r *run) stats() (stats proxy.Stats) {
	if r.network != nil {
		stats = r.network.Stats()
	}
	return stats
}

// distinctErrors are the texts of the consumers' errors, each once.
func (r *run) distinctErrors() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	errs := slices.Clone(r.errs)
	slices.Sort(errs)
	errs = slices.Compact(errs)
	return errs[:min(len(errs), 8)]
}

func (r *run) effectsSeen() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int64(len(r.effects))
}

// tookEffect reports whether one of the events has.
func (r *run) tookEffect(events []string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.effects, func(e fault.Effect) bool { return slices.Contains(events, e.ID) })
}

// strike makes the plan's faults happen.
func (r *run) strike(ctx context.Context, t *testing.T) {
	t.Helper()
	if len(r.plan.Strikes) == 0 {
		return
	}
	runner := fault.Runner{Plan: r.plan, Fleet: r.fleet, Progress: func(context.Context) (int64, error) {
		if !r.byHandlers {
			return r.effectsSeen(), nil
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		return int64(len(r.begun)), nil
	}}
	if r.hooks != nil {
		runner.Hooks = r.hooks(r)
	}
	outcome, err := runner.Run(ctx)
	require.NoError(t, err)
	require.Empty(t, outcome.Skipped, "every fault of the plan happens")
}
