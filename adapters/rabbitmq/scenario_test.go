package rabbitmq_test

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/adapters/rabbitmq/plain"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
	"github.com/hapax-go/hapax/internal/servers"
)

// scenario is a run with faults.
type scenario struct {
	workerSettings
	// store is the server of the ledger; empty: there is none.
	store    string
	workload fault.Workload
	// consumers is how many processes there are. Zero: 3.
	consumers int
	// copies is how often every event is sent, one copy after the other, or with
	// later all events before their copies. Zero: as the workload says.
	copies  int
	later   bool
	strikes []fault.Strike
	// meanwhile runs beside the processes, until its context ends.
	meanwhile func(ctx context.Context, r *run) error
	// adapt changes a process's settings, by number.
	adapt func(number int, w *workerSettings)
	// failpoints of the first children, by number.
	failpoints []string
	// gentle: the faults need not cause redeliveries.
	gentle bool
	// strict: no output may be published twice, not even under one event ID.
	strict bool
}

// run is what a scenario has to do with.
type run struct {
	scenario
	fleet   *fault.Fleet
	books   *sql.DB
	outputs []fault.Effect // found on the topic; Consumer is who published it

	mu         sync.Mutex
	had, begun []fault.Delivery
	ended      int
	errs       []string
}

func (s scenario) run(t *testing.T) (*run, fault.Report) {
	t.Helper()
	s.Folder, s.Topic = t.TempDir(), newTopic(t)
	s.prepareLedger(t)
	direct := s.workerSettings
	direct.URL = servers.Require(t, servers.RabbitMQ).URL
	s.URL = cmp.Or(s.URL, direct.URL)
	r := &run{scenario: s}
	broker, err := rabbitmq.Open(t.Context(), direct.config())
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	in, out := s.stages()
	declare := func(topic, group string, ordering adapters.Ordering) {
		subscriber, err := broker.Subscriber(adapters.Subscription{Group: group, Ordering: ordering})
		require.NoError(t, err)
		require.NoError(t, subscriber.(message.SubscribeInitializer).SubscribeInitialize(topic))
	}
	declare(in, relayGroup, adapters.OrderByKey)
	declare(out, bookGroup, adapters.OrderByKey)
	declare(out, auditGroup, adapters.Unordered)
	r.books, err = openBooks(t.Context(), s.Folder)
	require.NoError(t, err)
	defer r.books.Close()

	r.fleet = fault.NewFleet(r.command, nil)
	defer r.fleet.Close()
	limit := 3 * time.Minute
	if soak() {
		limit = 8 * time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	require.NoError(t, r.fleet.Start(ctx, cmp.Or(s.consumers, 3)))
	var sent fault.Sent
	publishing := make(chan error, 1)
	go func() { publishing <- s.publish(broker, in, &sent) }()
	faults, endFaults := context.WithCancel(ctx)
	struck := make(chan error, 2)
	go func() { struck <- r.strike(faults) }()
	go func() {
		if s.meanwhile == nil {
			struck <- nil
			return
		}
		struck <- s.meanwhile(faults, r)
	}()
	require.NoError(t, <-publishing)
	earlier, err := effects.Read(ctx, r.books)
	require.NoError(t, err)

	// The server says what is ready, and not what is unacknowledged; so wait for
	// the effects too. That they are no more than expected, the oracle looks at.
	left, err := fault.Drain(ctx, func(ctx context.Context) (map[string]int64, error) {
		left := map[string]int64{"handling": int64(r.handling())}
		for topic, group := range map[string]string{in: relayGroup, out: bookGroup} {
			depth, err := broker.Depth(ctx, topic, adapters.Subscription{Group: group})
			if err != nil {
				return nil, err
			}
			left[group] = int64(depth.Ready)
		}
		count, err := effects.ReadCount(ctx, r.books)
		left["missing"] = max(0, int64(s.workload.Events)-count.Events)
		return left, err
	})
	require.NoError(t, err)
	endFaults()
	require.NoError(t, <-struck)
	require.NoError(t, <-struck)
	require.NoError(t, r.fleet.Shutdown(30*time.Second))
	require.NoError(t, r.fleet.Err())

	server := plain.Server{URL: direct.URL}
	r.audit(t, server, out)
	letters, err := server.Length(dedup.DeadLetterTopic(in))
	require.NoError(t, err)
	require.Zero(t, letters, "dead letters")
	observation := fault.Observation{
		Expected: sent.Expected(), Earlier: earlier, Left: left, Counts: r.fleet.Counts(), Deliveries: r.begun,
		Outputs: r.outputs, ExpectOutputs: true, OutputsMayRepeat: !s.strict,
		Unordered: !s.Single, MayNotRedeliver: s.gentle,
	}
	observation.Effects, err = effects.Read(t.Context(), r.books)
	require.NoError(t, err)
	report := fault.Check(observation)
	t.Logf("%d events; %+v", report.Events, report.Summary())
	return r, report
}

// command starts a process.
func (r *run) command(number int) fault.Command {
	settings := r.workerSettings
	settings.Name = fmt.Sprint("consumer-", number)
	if r.adapt != nil {
		r.adapt(number, &settings)
	}
	encoded, _ := json.Marshal(settings)
	command := fault.Command{Name: settings.Name, Role: "worker", Args: []string{string(encoded)}, OnEvent: r.noted}
	if number <= len(r.failpoints) {
		command.Failpoints = r.failpoints[number-1]
	}
	return command
}

func (r *run) strike(ctx context.Context) error {
	if len(r.strikes) == 0 {
		return nil
	}
	runner := fault.Runner{
		Fleet: r.fleet, Plan: fault.Plan{Seed: r.workload.Seed, Effects: int64(r.workload.Events), Duration: time.Minute, Strikes: r.strikes},
		Progress: func(ctx context.Context) (int64, error) { return effects.Progress(ctx, r.books) },
	}
	_, err := runner.Run(ctx)
	return err
}

// verdict runs the scenario, and once more without deduplication.
func (s scenario) verdict(t *testing.T) *run {
	t.Helper()
	real, report := s.run(t)
	control := s
	control.Plain = true
	_, controlled := control.run(t)
	require.NoError(t, fault.Verdict(report, controlled), strings.Join(real.errs, "\n"))
	return real
}
