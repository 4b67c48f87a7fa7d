package relay

import (
	"context"
	"time"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

const (
	pollAlone     = 10 * time.Millisecond
	pollListening = 250 * time.Millisecond
)

// interval is the time until the next look for rows.
func (r *Relay) interval() time.Duration {
	quiet := r.listens.Load() && !r.hot.Load() && time.Now().UnixNano() > r.restless.Load()
	switch {
	case r.config.PollInterval > 0:
		return r.config.PollInterval
	case quiet:
		return pollListening
	default:
		return pollAlone
	}
}

// watch wakes the workers when rows wait: one small question for all of them.
func (r *Relay) watch(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	pause := r.patience()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		found, err := r.table.anyWaiting(ctx)
		if err != nil {
			timer.Reset(pause.NextBackOff()) // the workers tell
			continue
		}
		pause.Reset()
		if found {
			r.Wake()
		}
		timer.Reset(r.interval())
	}
}

// listen hears the notifications of PostgreSQL.
func (r *Relay) listen(ctx context.Context) {
	pause := r.patience()
	for ctx.Err() == nil {
		err := sqldb.Listen(ctx, r.config.DB, r.table.name.Name, func(string) {
			pause.Reset()
			r.listens.Store(true)
			r.Wake()
		})
		r.listens.Store(false)
		if err == nil {
			return
		}
		r.config.Logger.Debug("listen for outbox rows: polling until it works again", "error", err)
		sleep(ctx, pause.NextBackOff())
	}
}

const pruneEvery = 10 * time.Second

// prune removes published rows that have been kept for long enough. One relay
// does it: the owner of the first shard.
func (r *Relay) prune(ctx context.Context) {
	for sleep(ctx, min(pruneEvery, r.config.Retention)) {
		usable, _ := r.leases.of(0, 1)
		if len(usable) == 0 || usable[0].shard != 0 {
			continue
		}
		for more := true; more; {
			var err error
			if more, err = r.table.prune(ctx, r.config.Retention); err != nil && ctx.Err() == nil {
				r.config.Logger.Warn("remove published outbox rows: it tries again", "error", err)
			}
		}
	}
}

// sleep waits, and reports whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
