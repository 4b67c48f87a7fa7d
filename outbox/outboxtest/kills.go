package outboxtest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/relay"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Roles are the children of Kills, for fault.ChildMain.
var Roles = map[string]func(context.Context, []string) int{"outbox-relay": relayChild}

// childConfig is what a relay in a process of its own is told.
type childConfig struct {
	DSN    string
	Outbox outbox.Config
	Lease  time.Duration
	Batch  int
	// Confirm is how long the broker takes to confirm what has arrived.
	Confirm time.Duration
}

// arrival is a message that a child published.
type arrival struct{ ID, Key, Topic string }

// relayChild runs a relay whose broker is the pipe to the harness: what was
// written to it has arrived, whatever becomes of the child.
func relayChild(ctx context.Context, args []string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var config childConfig
	if err := json.Unmarshal([]byte(args[0]), &config); err != nil {
		return fail(err)
	}
	db, _, err := sqldb.Open(ctx, config.DSN)
	if ctx.Err() != nil { // told to stop before it began
		return 0
	}
	if err != nil {
		return fail(err)
	}
	defer db.Close()
	r, err := relay.New(relay.Config{
		DB: db, Outbox: config.Outbox, Publisher: pipe{ctx, config.Confirm}, Lease: config.Lease, Batch: config.Batch,
		RetryDelay: 10 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return fail(err)
	}
	if err := fault.Ready(ctx); err != nil {
		return fail(err)
	}
	if err := r.Run(ctx); err != nil {
		return fail(err)
	}
	return 0
}

type pipe struct {
	ctx     context.Context
	confirm time.Duration
}

// Publish implements message.Publisher.
func (p pipe) Publish(topic string, messages ...*message.Message) error {
	for _, msg := range messages {
		err := fault.Emit(p.ctx, arrival{msg.Metadata.Get(dedup.MetaEventID), msg.Metadata.Get(dedup.MetaKey), topic})
		if err != nil {
			return err
		}
	}
	time.Sleep(p.confirm)
	return nil
}

// Close implements message.Publisher.
func (pipe) Close() error { return nil }

// KillOptions are the size of a run of Kills.
type KillOptions struct {
	// Rows are written by Writers, each with keys of its own, in transactions
	// that take up to Longest, of which a fifth is rolled back.
	Rows, Writers int
	Longest       time.Duration
	// Relays run at a time; one is killed about every KillEvery.
	Relays    int
	KillEvery time.Duration
	// Failpoints arms relay number n, counted from 1; nil or "": none.
	Failpoints func(n int) string
	// Disturb, if set, runs beside it all until its context ends.
	Disturb func(context.Context) error
	// DSN is the database as the relays reach it. Default: the harness's.
	DSN  string
	Seed uint64
}

// Kills kills relays while many transactions write, and then asks: was published
// what was committed, and nothing else, and in order by key? Copies are allowed,
// and their number is returned: none means that the kills hit nothing.
func Kills(t *testing.T, harness Harness, options KillOptions) (copies int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	arrivals := &arrivals{seen: map[string]int{}, byKey: map[string][]string{}}
	if options.DSN == "" {
		options.DSN = harness.DSN
	}
	arguments, err := json.Marshal(childConfig{DSN: options.DSN, Outbox: harness.Outbox, Lease: time.Second, Batch: 200, Confirm: 20 * time.Millisecond})
	require.NoError(t, err)
	fleet := fault.NewFleet(func(number int) fault.Command {
		command := fault.Command{Name: fmt.Sprint("relay-", number), Role: "outbox-relay", Args: []string{string(arguments)}, OnEvent: arrivals.add}
		if options.Failpoints != nil {
			command.Failpoints = options.Failpoints(number)
		}
		return command
	}, nil)
	defer func() { require.NoError(t, fleet.Close()) }()
	require.NoError(t, fleet.Start(ctx, options.Relays))

	striking, over := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer over()
	if options.KillEvery > 0 {
		runner := &fault.Runner{Fleet: fleet, Plan: fault.Plan{
			Seed: options.Seed, Duration: 9 * time.Minute,
			Strikes: []fault.Strike{{Action: fault.ActionKill, Every: options.KillEvery, Jitter: 0.5}},
		}}
		beside.Go(func() {
			if _, err := runner.Run(striking); err != nil {
				t.Errorf("strike: %v", err)
			}
		})
	}
	if options.Disturb != nil {
		beside.Go(func() {
			if err := options.Disturb(striking); err != nil {
				t.Errorf("disturb: %v", err)
			}
		})
	}
	started := time.Now()
	committed := write(ctx, t, harness, options)
	wrote := time.Since(started)
	total := 0
	for _, ids := range committed {
		total += len(ids)
	}
	table, err := relay.NewTable(harness.DB, harness.Outbox)
	require.NoError(t, err)
	for {
		status, err := table.Status(ctx)
		if err == nil && status.Waiting == 0 && arrivals.events() >= total {
			require.Zero(t, status.Parked)
			break
		}
		require.NoError(t, fleet.Err())
		require.NoError(t, ctx.Err(), "%+v waits, %d of %d arrived", status, arrivals.events(), total)
		time.Sleep(20 * time.Millisecond) // the pace of looking
	}
	over()
	beside.Wait()
	require.NoError(t, fleet.Shutdown(30*time.Second))
	require.NoError(t, fleet.Err())

	copies = arrivals.copies()
	t.Logf("seed %d: %d rows committed in %s, all published after %s; %d copies, %d relays started, %d killed",
		options.Seed, total, wrote.Round(time.Millisecond), time.Since(started).Round(time.Millisecond), copies, fleet.Counts().Started, fleet.Counts().Kills)
	arrivals.mu.Lock()
	defer arrivals.mu.Unlock()
	require.Len(t, arrivals.byKey, len(committed))
	for key, ids := range committed {
		require.Equal(t, ids, arrivals.byKey[key], "key %s: expected what was committed, in order", key)
	}
	return copies
}

// write writes the rows and returns the IDs that were committed, by key.
func write(ctx context.Context, t *testing.T, harness Harness, options KillOptions) map[string][]string {
	var mu sync.Mutex
	committed := map[string][]string{}
	var all sync.WaitGroup
	for w := range options.Writers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(options.Seed, uint64(w)))
			mine := map[string][]string{}
			for n := 0; n < options.Rows/options.Writers; {
				var messages []*message.Message
				ids := map[string][]string{}
				for range min(1+random.IntN(40), options.Rows/options.Writers-n) {
					key := fmt.Sprintf("writer-%d-%d", w, random.IntN(4))
					id := fmt.Sprintf("%s-%d", key, n)
					ids[key] = append(ids[key], id)
					messages = append(messages, event(id, key))
					n++
				}
				undo := random.IntN(5) == 0
				pause := time.Duration(random.Int64N(int64(options.Longest) + 1))
				for attempt := 0; ; attempt++ {
					err := transact(ctx, harness, messages, pause, undo)
					if err == nil {
						break
					}
					// Unknown COMMITs would be sends that may or may not be: the
					// scenarios with a restart look before they write again.
					if ctx.Err() != nil || attempt == 100 {
						t.Errorf("write: %v", err)
						return
					}
					if there, err := present(ctx, harness, messages[0].UUID); err == nil && there {
						break
					}
					time.Sleep(100 * time.Millisecond)
				}
				if undo {
					continue
				}
				for key, ids := range ids {
					mine[key] = append(mine[key], ids...)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for key, ids := range mine {
				committed[key] = ids
			}
		})
	}
	all.Wait()
	return committed
}

// transact writes messages, half of them before a pause, and a row of its own
// beside the outbox: the effect, by which an unknown COMMIT is found out.
func transact(ctx context.Context, harness Harness, messages []*message.Message, pause time.Duration, undo bool) error {
	tx, err := harness.DB.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	if _, err := tx.ExecContext(ctx, "INSERT INTO "+effects(harness)+" (id) VALUES ('"+messages[0].UUID+"')"); err != nil {
		return err
	}
	publisher, err := outbox.NewPublisher(ctx, tx, harness.Outbox)
	if err != nil {
		return err
	}
	half := len(messages) / 2
	if err := publisher.Publish("orders", messages[:half]...); err != nil {
		return err
	}
	if harness.OneWriter {
		pause /= 100 // everybody waits for it
	}
	time.Sleep(pause) // the length of the transaction
	if err := publisher.Publish("orders", messages[half:]...); err != nil {
		return err
	}
	if undo {
		return nil
	}
	return tx.Commit()
}

// effects is a table of the application beside the outbox.
func effects(harness Harness) string {
	return harness.Outbox.Dialect.Quote(harness.Outbox.Table.With("_effects"))
}

func present(ctx context.Context, harness Harness, id string) (bool, error) {
	var n int
	err := harness.DB.QueryRowContext(ctx, "SELECT count(*) FROM "+effects(harness)+" WHERE id = '"+id+"'").Scan(&n)
	return n > 0, err
}

// arrivals is what came through the pipes of all children.
type arrivals struct {
	mu    sync.Mutex
	seen  map[string]int
	byKey map[string][]string // first copies
}

func (a *arrivals) add(data json.RawMessage) {
	var one arrival
	err := json.Unmarshal(data, &one)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		return // a line that the kill cut short: it has not arrived
	}
	if a.seen[one.ID]++; a.seen[one.ID] == 1 {
		a.byKey[one.Key] = append(a.byKey[one.Key], one.ID)
	}
}

func (a *arrivals) events() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen)
}

func (a *arrivals) copies() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, times := range a.seen {
		n += times - 1
	}
	return n
}
