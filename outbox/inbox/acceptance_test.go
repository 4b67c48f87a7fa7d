package inbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/sqlite"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// soak asks for the full sizes of the scenarios: HAPAX_SOAK=1 go test -run
// Acceptance -timeout 30m.
var soak = os.Getenv("HAPAX_SOAK") == "1"

// scenario is a run of worker processes under faults.
type scenario struct {
	workers    int
	workload   fault.Workload
	plan       fault.Plan
	takes      time.Duration
	failpoints func(n int) string
	// copies sends each event so often, each time under a key of its own.
	copies int
	// mild: the faults need not cause redeliveries.
	mild bool
	// byDeliveries: the plan goes by deliveries begun, not by effects: a frozen
	// worker makes none.
	byDeliveries bool
}

// verdict runs the scenario without deduplication, which must be found guilty, and
// with it.
func (s scenario) verdict(t *testing.T, dialect sqldb.Dialect) {
	t.Helper()
	controlled := s.run(newRigOn(t, dialect), true)
	require.NoError(t, fault.Verdict(s.run(newRigOn(t, dialect), false), controlled))
}

func (s scenario) run(r *rig, control bool) fault.Report {
	t := r.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	folder := t.TempDir()
	r.effectsTable()
	broker, err := sqlite.Open(ctx, workerBroker(folder))
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	tried, err := effects.Open(ctx, filepath.Join(folder, "deliveries.db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, tried.Close()) }()
	var sent fault.Sent
	var batch []*message.Message
	for send := range s.workload.Sends() {
		payload, err := json.Marshal(send.Event)
		require.NoError(t, err)
		for copied := range max(s.copies, 1) {
			msg := message.NewMessage(send.ID, payload)
			msg.Metadata.Set(dedup.MetaEventID, send.ID)
			msg.Metadata.Set(dedup.MetaKey, fmt.Sprint(send.Key, "/", copied))
			msg.Metadata.Set("copy", strconv.Itoa(2*copied+send.Copy))
			batch = append(batch, msg)
		}
		sent.Record(send.Event, fault.SendOK)
	}
	require.NoError(t, broker.Publisher().Publish(workerTopic, batch...))

	var begun atomic.Int64
	fleet := fault.NewFleet(func(n int) fault.Command {
		w := worker{Name: fmt.Sprint("worker-", n), Folder: folder, DSN: r.dsn, Control: control, Takes: s.takes}
		argument, _ := json.Marshal(w) // strings and numbers always encode
		command := fault.Command{Name: w.Name, Role: "worker", Args: []string{string(argument)}, OnEvent: func(json.RawMessage) { begun.Add(1) }}
		if s.failpoints != nil {
			command.Failpoints = s.failpoints(n)
		}
		return command
	}, nil)
	defer func() { require.NoError(t, fleet.Close()) }()
	require.NoError(t, fleet.Start(ctx, s.workers))
	if len(s.plan.Strikes) > 0 {
		progress := func(ctx context.Context) (int64, error) { return effects.Progress(ctx, r.db) }
		if s.byDeliveries {
			progress = func(context.Context) (int64, error) { return begun.Load(), nil }
		}
		striking, stop := context.WithTimeout(ctx, time.Minute)
		_, err = (&fault.Runner{Plan: s.plan, Fleet: fleet, Progress: progress}).Run(striking)
		stop()
		require.NoError(t, err)
	}
	observation := fault.Observation{Expected: sent.Expected(), ExpectOutputs: !control, MayNotRedeliver: s.mild, Unordered: s.copies > 1}
	observation.Left, err = fault.Drain(ctx, func(ctx context.Context) (map[string]int64, error) {
		groups, err := broker.Stats(ctx)
		left := map[string]int64{}
		for _, group := range groups {
			left["backlog"], left["pending"] = group.Backlog, group.Pending
		}
		return left, err
	})
	observation.Counts = fleet.Counts()
	require.NoError(t, errors.Join(err, fleet.Shutdown(20*time.Second), fleet.Err()))
	observation.Effects, err = effects.Read(ctx, r.db)
	require.NoError(t, err)
	observation.Deliveries, err = effects.ReadDeliveries(ctx, tried)
	require.NoError(t, err)
	if !control {
		observation.Outputs = r.outputs()
	}
	report := fault.Check(observation)
	t.Logf("control %t: %d events, %d effects, %d outputs, %d deliveries, %d redeliveries, %+v; duplicate effects %d, outputs %d, lost %d",
		control, report.Events, report.Effects, report.Outputs, report.Deliveries, report.Redeliveries, report.Counts, report.DuplicateEffects, report.DuplicateOutputs, report.Lost)
	return report
}

// effectsTable replaces the table of effects by the harness's.
func (r *rig) effectsTable() {
	number := map[sqldb.Dialect]string{sqldb.Postgres: "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", sqldb.MySQL: "bigint AUTO_INCREMENT PRIMARY KEY"}[r.dialect]
	r.exec(`DROP TABLE effects`)
	r.exec(`CREATE TABLE effects (seq ` + number + `, event_id VARCHAR(255) NOT NULL, event_key VARCHAR(255) NOT NULL, n BIGINT NOT NULL, consumer VARCHAR(255) NOT NULL, at BIGINT NOT NULL)`)
}

// outputs reads the outbox.
func (r *rig) outputs() (found []fault.Effect) {
	for i, payload := range r.texts(`SELECT payload FROM hapax_outbox ORDER BY id`) {
		var event fault.Event
		require.NoError(r.t, json.Unmarshal([]byte(payload), &event))
		found = append(found, fault.Effect{ID: event.ID, Key: event.Key, Seq: event.Seq, Position: int64(i)})
	}
	return found
}

func onServers(t *testing.T, test func(*testing.T, sqldb.Dialect)) {
	for _, dialect := range []sqldb.Dialect{sqldb.Postgres, sqldb.MySQL} {
		t.Run(string(dialect), func(t *testing.T) {
			t.Parallel() // they wait for leases, most of the time
			test(t, dialect)
		})
	}
}

// Scenario 1: three workers, one of them killed again and again.
func TestAcceptanceKill(t *testing.T) {
	onServers(t, func(t *testing.T, dialect sqldb.Dialect) {
		s := scenario{
			workers: 3, workload: fault.Workload{Seed: 1, Events: 400, Keys: 64, Duplicates: 0.2},
			plan: fault.Plan{Seed: 1, Effects: 350, Strikes: []fault.Strike{{Action: fault.ActionKill, EveryEffects: 100, Jitter: 0.3}}},
			// Those kills may find nobody at work. One of the first three workers, who
			// share the work, dies at work for certain.
			failpoints: func(n int) string {
				if n > 3 {
					return ""
				}
				return fmt.Sprintf("%s@%d", failpoint.AfterHandle, 5*n)
			},
		}
		if soak {
			s.workload.Events, s.workload.Keys = 100_000, 500
			s.plan = fault.Plan{Seed: 1, Duration: time.Minute, Strikes: []fault.Strike{{Action: fault.ActionKill, Every: 2 * time.Second}}}
		}
		s.verdict(t, dialect)
	})
}

// Scenario 9: copies of each event are with four processes at once.
func TestAcceptanceConcurrentCopies(t *testing.T) {
	onServers(t, func(t *testing.T, dialect sqldb.Dialect) {
		s := scenario{workers: 4, copies: 4, takes: 5 * time.Millisecond, mild: true, workload: fault.Workload{Seed: 9, Events: 150, Keys: 150}}
		if soak {
			s.workload.Events, s.workload.Keys, s.copies = 1000, 1000, 16
		}
		s.verdict(t, dialect)
	})
}

// Scenario 4: workers are stopped in the middle of their handlers, for longer than
// the broker's lease and the database's patience, while others take over. They
// wake up and cannot commit.
func TestAcceptanceZombie(t *testing.T) {
	onServers(t, func(t *testing.T, dialect sqldb.Dialect) {
		scenario{
			workers: 2, takes: 5 * time.Millisecond, byDeliveries: true,
			workload: fault.Workload{Seed: 4, Events: 120, Keys: 16, Duplicates: 0.2},
			plan: fault.Plan{Seed: 4, Effects: 110, Strikes: []fault.Strike{
				{Action: fault.ActionPause, EveryEffects: 40, For: 3 * max(workerLease, idleTimeout)},
			}},
		}.verdict(t, dialect)
	})
}

// Scenario 7: a worker and its successor die at a point of the processing order.
func TestAcceptanceCrashPoints(t *testing.T) {
	onServers(t, func(t *testing.T, dialect sqldb.Dialect) {
		const victims = 2
		die := func(t *testing.T, point failpoint.Point, control bool) fault.Report {
			report := scenario{
				workers: 1, mild: true, workload: fault.Workload{Seed: 7, Events: 40, Keys: 8, Duplicates: 0.4},
				failpoints: func(n int) string {
					if n > victims {
						return ""
					}
					return fmt.Sprintf("%s@%d", point, n)
				},
			}.run(newRigOn(t, dialect), control)
			require.Equal(t, victims, report.Kills)
			return report
		}
		t.Run("control", func(t *testing.T) { require.NoError(t, fault.Control(die(t, failpoint.AfterHandle, true))) })
		for _, point := range []failpoint.Point{
			failpoint.AfterClaim, failpoint.AfterHandle, failpoint.BeforePublish, failpoint.AfterPublish, failpoint.BeforeMark, failpoint.AfterMark,
		} {
			t.Run(string(point), func(t *testing.T) {
				t.Parallel()
				require.NoError(t, die(t, point, false).Err())
			})
		}
	})
}
