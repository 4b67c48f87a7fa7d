package sqlite_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/sqlite"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
)

// soak asks for the full sizes of the acceptance scenarios instead of those that
// fit into every test run: HAPAX_SOAK=1 go test -run Acceptance -timeout 30m.
var soak = os.Getenv("HAPAX_SOAK") == "1"

// patience bounds a run, from the first consumer to the last.
const patience = 4 * time.Minute

// scenario is a run of consumer processes under faults.
type scenario struct {
	consumers int
	workload  fault.Workload
	// spread sends each event so often, under different keys and a consumer's
	// window apart, so that its copies are with several consumers at once.
	// Default 1.
	spread int
	// over is the time in which everything is sent. Default: at once, before the
	// first consumer starts.
	over time.Duration
	plan fault.Plan
	// hooks returns the plan's own faults.
	hooks func(*run) map[fault.Action]func(context.Context, fault.Step) error
	// byHandlers: the plan goes by handlers begun, not by effects.
	byHandlers bool
	// adapt changes consumer number n; failpoints arms it.
	adapt      func(n int, c *consumer)
	failpoints func(n int) string
	// mild: the faults need not cause redeliveries.
	mild bool
}

// run is a scenario under way and, afterwards, what it left.
type run struct {
	scenario
	folder      string
	claim       dedup.ClaimKind
	broker      *sqlite.Broker
	shop, tried *sql.DB
	fleet       *fault.Fleet
	sent        fault.Sent
	deliveries  []fault.Delivery
	effects     []fault.Effect

	mu    sync.Mutex
	begun int64    // handlers
	errs  []string // of the deliveries
}

// verdict runs the scenario as a control run and with each kind of claim: the
// first must be found guilty, the others must be clean. look, if not nil, looks at
// what these others left.
func (s scenario) verdict(t *testing.T, look func(*testing.T, *run), claims ...dedup.ClaimKind) {
	t.Helper()
	_, controlled := s.run(t, control)
	for _, claim := range claims {
		t.Run(string(claim), func(t *testing.T) {
			real, report := s.run(t, claim)
			require.NoError(t, fault.Verdict(report, controlled))
			if look != nil {
				look(t, real)
			}
		})
	}
}

func (s scenario) run(t *testing.T, claim dedup.ClaimKind) (*run, fault.Report) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := &run{scenario: s, folder: t.TempDir(), claim: claim}
	r.open(t)
	defer r.close(t)
	started := time.Now()
	if s.over == 0 {
		require.NoError(t, r.produce(ctx))
	}
	require.NoError(t, r.fleet.Start(ctx, s.consumers))
	produced := make(chan error, 1)
	go func() {
		if s.over > 0 {
			produced <- r.produce(ctx)
		}
		close(produced)
	}()
	r.strike(ctx, t)
	require.NoError(t, <-produced)
	report := r.judge(ctx, t)
	t.Logf("%s, %s: %s: %d events, %d effects, %d outputs, %d deliveries, %d redeliveries, %+v; duplicate effects %d, outputs %d, lost %d",
		claim, s.plan, time.Since(started).Round(time.Millisecond), report.Events, report.Effects, report.Outputs,
		report.Deliveries, report.Redeliveries, report.Counts, report.DuplicateEffects, report.DuplicateOutputs, report.Lost)
	return r, report
}

func (r *run) open(t *testing.T) {
	t.Helper()
	var err error
	r.broker, err = sqlite.Open(t.Context(), acceptanceConfig(r.folder))
	require.NoError(t, err)
	require.NoError(t, effects.EnsureSchema(t.Context(), r.broker.DB()))
	r.tried, err = effects.Open(t.Context(), deliveriesFile(r.folder))
	require.NoError(t, err)
	r.shop = r.broker.DB()
	if r.claim == control {
		r.shop, err = effects.Open(t.Context(), shopFile(r.folder))
		require.NoError(t, err)
	}
	r.fleet = fault.NewFleet(r.child, nil)
}

func (r *run) close(t *testing.T) {
	require.NoError(t, errors.Join(r.fleet.Close(), r.broker.Close(), r.shop.Close(), r.tried.Close()))
}

func (r *run) child(n int) fault.Command {
	c := consumer{Name: fmt.Sprintf("consumer-%d", n), Folder: r.folder, Claim: r.claim}
	if r.adapt != nil {
		r.adapt(n, &c)
	}
	argument, _ := json.Marshal(c) // strings and numbers always encode
	command := fault.Command{Name: c.Name, Role: "consumer", Args: []string{string(argument)}, OnEvent: r.hear}
	if r.failpoints != nil {
		command.Failpoints = r.failpoints(n)
	}
	return command
}

func (r *run) hear(data json.RawMessage) {
	var n note
	if json.Unmarshal(data, &n) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.Err == "" {
		r.begun++
	} else {
		r.errs = append(r.errs, n.Err)
	}
}

// produce sends the workload in calls of 50 messages.
func (r *run) produce(ctx context.Context) error {
	chunks := slices.Collect(slices.Chunk(slices.Collect(r.workload.Sends()), 50))
	tick := time.NewTicker(max(r.over/time.Duration(len(chunks)), time.Microsecond))
	defer tick.Stop()
	for _, sends := range chunks {
		var msgs []*message.Message
		for nth := range max(r.spread, 1) {
			for _, send := range sends {
				msgs = append(msgs, messageOf(send, nth))
			}
		}
		if err := r.broker.Publisher().Publish(input, msgs...); err != nil {
			return err
		}
		for _, send := range sends {
			r.sent.Record(send.Event, fault.SendOK)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// messageOf is the nth of the messages that carry a send, each under its own key.
func messageOf(send fault.Send, nth int) *message.Message {
	payload, _ := json.Marshal(send.Event) // strings and numbers always encode
	msg := message.NewMessage(send.ID, payload)
	msg.Metadata.Set(dedup.MetaEventID, send.ID)
	msg.Metadata.Set(dedup.MetaKey, fmt.Sprint(send.Key, "/", nth))
	msg.Metadata.Set(metaCopy, strconv.Itoa(2*nth+send.Copy))
	return msg
}
