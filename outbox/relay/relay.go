package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Relay publishes the rows of an outbox. Make one with New.
type Relay struct {
	config  Config
	table   *Table
	leases  *leases
	workers []*worker

	// listens: a connection hears notifications. hot: so many rows come that
	// polling is cheaper. restless: rows may have been written while hot, by
	// transactions that are still open; until then it polls fast.
	listens  atomic.Bool
	hot      atomic.Bool
	restless atomic.Int64 // Unix nanoseconds

	found    atomic.Int64 // rows since the last tick
	stats    counters
	troubles troubles
}

// Stats counts what a relay has done since it was made.
type Stats struct {
	// Published rows; a row that was published twice counts twice.
	Published int64
	// Failed tries of single rows, and rows that were Parked.
	Failed, Parked int64
	// Rounds that found rows.
	Rounds int64
	// Shards is how many shards this relay owns now.
	Shards int
}

type counters struct{ published, failed, parked, rounds atomic.Int64 }

// New checks a configuration and returns a relay that does nothing yet.
func New(config Config) (*Relay, error) {
	config, err := config.resolve()
	if err != nil {
		return nil, err
	}
	table, err := NewTable(config.DB, config.Outbox)
	if err != nil {
		return nil, err
	}
	r := &Relay{config: config, table: table}
	r.troubles.of = make([]error, 1+config.Workers)
	r.leases = &leases{table: table, owner: config.Instance, ttl: config.Lease, held: map[int]lease{}, leaving: map[int]bool{}}
	for i := range config.Workers {
		r.workers = append(r.workers, &worker{relay: r, number: i, after: -1, wake: make(chan struct{}, 1), held: map[unit]*hold{}, rests: map[string]*rest{}, again: map[int64]bool{}})
	}
	return r, nil
}

// Run publishes until ctx ends. Then it lets what is under way finish and gives
// its shards back, so that another relay goes on at once. It returns an error
// only when the outbox cannot be used at all at the start, such as for a missing
// table. It waits for whatever is away.
func (r *Relay) Run(ctx context.Context) error {
	// Everything but the start may be retried, so what retrying cannot mend has
	// to be found here. A database that is away is waited for, as later.
	if _, err := r.table.anyWaiting(ctx); err != nil && !sqldb.IsLost(err) {
		return fmt.Errorf("start relay: %w", err)
	}
	var all sync.WaitGroup
	all.Go(func() { r.keep(ctx) })
	all.Go(func() { r.watch(ctx) })
	if r.config.Outbox.Dialect == sqldb.Postgres {
		all.Go(func() { r.listen(ctx) })
	}
	if r.config.Retention > 0 {
		all.Go(func() { r.prune(ctx) })
	}
	for _, w := range r.workers {
		all.Go(func() { w.run(ctx) })
	}
	all.Wait()
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if err := r.leases.end(ending); err != nil {
		r.config.Logger.Warn("give back shards: they wait for the lease to end", "error", err, "lease", r.config.Lease)
	}
	return nil
}

const endTimeout = 5 * time.Second

// Wake tells the relay that rows were committed. It never blocks.
func (r *Relay) Wake() {
	for _, w := range r.workers {
		w.signal()
	}
}

// Stats returns what was done so far.
func (r *Relay) Stats() Stats {
	return Stats{
		Published: r.stats.published.Load(), Failed: r.stats.failed.Load(), Parked: r.stats.parked.Load(),
		Rounds: r.stats.rounds.Load(), Shards: r.leases.count(),
	}
}

// Healthy returns why the relay does not get on now: the database or the broker
// is away. It is over when a heartbeat or a look for rows succeeds, whichever had
// failed, whether there is something to publish or not. A row that cannot be published
// is no such reason, nor is a topic that the broker refuses while it answers Ping.
func (r *Relay) Healthy() error {
	return r.troubles.any()
}

// Table is the outbox.
func (r *Relay) Table() *Table { return r.table }

// keep keeps the leases, and decides about listening.
func (r *Relay) keep(ctx context.Context) {
	// Often enough for several tries within a lease.
	ticker := time.NewTicker(r.config.Lease / 5)
	defer ticker.Stop()
	last := time.Now()
	for {
		changed, err := r.tick(ctx)
		switch {
		case err == nil:
			r.cured(leasesPart)
		case ctx.Err() == nil:
			r.trouble(leasesPart, fmt.Errorf("keep leases: %w", err))
		}
		if changed {
			r.Wake()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		r.pace(time.Since(last))
		last = time.Now()
	}
}

// tick is not cut short when the relay is to end: the server might carry out a
// statement that was given up, such as taking a shard, after all was given back.
func (r *Relay) tick(ctx context.Context) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.config.Lease)
	defer cancel()
	return r.leases.tick(ctx, r.listens.Load() && !r.hot.Load())
}

// hotRate is how many rows a second make polling cheaper than notifications.
const hotRate = 200

// pace sets hot by the rows of the time that passed.
func (r *Relay) pace(passed time.Duration) {
	hot := float64(r.found.Swap(0)) > hotRate*passed.Seconds()
	if r.hot.Swap(hot) && !hot {
		// Transactions that wrote their rows while nobody listened may still be
		// open: look often until they have had time to commit.
		r.restless.Store(time.Now().Add(restlessFor).UnixNano())
	}
}

const restlessFor = 5 * time.Second

// trouble notes that something is away for a part of the relay; cured that it is back.
func (r *Relay) trouble(part int, err error) {
	if r.troubles.set(part, err) {
		r.config.Logger.Warn("outbox relay does not get on: it tries again", "error", err)
	}
}

func (r *Relay) cured(part int) {
	if r.troubles.set(part, nil) {
		r.config.Logger.Info("outbox relay goes on")
	}
}

// troubles are why parts of a relay do not get on: the leases, and each worker. Every
// part tells for itself when it does again. One for all would be cleared by whichever
// comes first: by a heartbeat though the broker is away, or by a worker that has no
// rows though another one cannot publish its own.
type troubles struct {
	mu sync.Mutex
	of []error
}

// leasesPart comes before the workers.
const leasesPart = 0

func (w *worker) part() int { return 1 + w.number }

// set reports whether the first trouble came, or the last one went.
func (t *troubles) set(part int, err error) (turned bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := cmp.Or(t.of...)
	t.of[part] = err
	return (before == nil) != (cmp.Or(t.of...) == nil)
}

func (t *troubles) any() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return cmp.Or(t.of...)
}

// patience paces tries while a database or a broker is away.
func (r *Relay) patience() *backoff.ExponentialBackOff {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval = r.config.RetryDelay
	pause.MaxInterval = min(r.config.MaxRetryDelay, 5*time.Second)
	pause.Multiplier = 2
	return pause
}

var (
	errOutage  = errors.New("broker does not take messages")
	errRefused = errors.New("broker does not take messages of the topic")
)
