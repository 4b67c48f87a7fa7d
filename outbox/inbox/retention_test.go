package inbox_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// TestExpiryDoesNotSlowTheInbox fills a generation with ten million marks and lets
// them expire while events are processed. It takes minutes and prints figures:
//
//	HAPAX_SOAK=1 go test -run ExpiryDoesNotSlow -v -timeout 30m
func TestExpiryDoesNotSlowTheInbox(t *testing.T) {
	servers.OnRequest(t, "HAPAX_SOAK", "it takes minutes")
	rows := 10_000_000
	if text := os.Getenv("HAPAX_SOAK_ROWS"); text != "" {
		rows, _ = strconv.Atoi(text)
	}
	eachServer(t, func(r *rig) {
		t, dialect := r.t.(*testing.T), r.dialect
		p := r.process(lasting(time.Hour))
		h := p.handler(r.effect)
		empty := h.measure(t, "empty table", 5*time.Second, nil)
		r.fill(rows)
		full := h.measure(t, fmt.Sprintf("beside %d marks", rows), 5*time.Second, nil)
		require.NoError(t, p.inbox.TurnNow(t.Context()))
		older := map[sqldb.Dialect]string{sqldb.Postgres: `now() - interval '2 hours'`, sqldb.MySQL: `UTC_TIMESTAMP(6) - INTERVAL 2 HOUR`}[dialect]
		r.exec(`UPDATE hapax_inbox_generations SET closed_at = ` + older + ` WHERE generation = 1`)
		during := h.measure(t, "while they expire", 5*time.Second, func() {
			began := time.Now()
			require.NoError(t, p.inbox.Maintain(t.Context()))
			t.Logf("%s: the drop of %d marks took %s", dialect, rows, time.Since(began).Round(time.Millisecond))
		})
		require.Less(t, r.number(`SELECT count(*) FROM hapax_inbox`), rows)
		after := h.measure(t, "afterwards", 5*time.Second, nil)
		// No bound of speed on a shared machine, but of what a DELETE would do.
		require.Greater(t, during, min(full, after, empty)/3)
	})
}

// fill writes marks of other events into the first generation.
func (r *rig) fill(rows int) {
	began := time.Now()
	const chunk = 500_000
	for from := 0; from < rows; from += chunk {
		to := min(rows, from+chunk)
		if r.dialect == sqldb.Postgres {
			r.exec(fmt.Sprintf(`INSERT INTO hapax_inbox (generation, id, digest, service, handler, event_id, event_type)
				SELECT 1, md5(n::text)::uuid, md5(n::text)::uuid, 'shop', 'charge', 'event-' || n, 'orders' FROM generate_series(%d, %d) n`, from+1, to))
			continue
		}
		r.exec(fmt.Sprintf(`INSERT INTO hapax_inbox (generation, id, digest, token, service, handler, event_id, event_type, processed_at)
			SELECT 1, unhex(md5(seq)), unhex(md5(seq)), 1, 'shop', 'charge', concat('event-', seq), 'orders', UTC_TIMESTAMP(6) FROM seq_%d_to_%d`, from+1, to))
	}
	r.t.Logf("%s: filled with %d marks in %s", r.dialect, rows, time.Since(began).Round(time.Second))
}

var measured atomic.Int64

// measure processes events for a while, 200 at a time, and returns events a second.
// beside runs after a fifth of the time.
func (h *handler) measure(t *testing.T, what string, length time.Duration, beside func()) float64 {
	var all sync.WaitGroup
	var mu sync.Mutex
	var times []time.Duration
	began := time.Now()
	for range 200 {
		all.Go(func() {
			for time.Since(began) < length {
				started := time.Now()
				h.insist(fmt.Sprint("measured-", measured.Add(1)))
				took := time.Since(started)
				mu.Lock()
				times = append(times, took)
				mu.Unlock()
			}
		})
	}
	if beside != nil {
		time.Sleep(length / 5)
		beside()
	}
	all.Wait()
	slices.Sort(times)
	rate := float64(len(times)) / time.Since(began).Seconds()
	t.Logf("%s, %s: %.0f events/s, p50 %s, p99 %s, max %s", h.process.dialect, what, rate, times[len(times)/2].Round(time.Microsecond),
		times[len(times)*99/100].Round(time.Microsecond), times[len(times)-1].Round(time.Microsecond))
	return rate
}
