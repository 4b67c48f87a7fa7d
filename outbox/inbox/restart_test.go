package inbox_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/outbox/inbox"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

// Scenario 11: the database is restarted while events are processed, by SIGKILL and
// cleanly. Every test on that server would feel it, so it wants servers of its own:
//
//	export HAPAX_SERVERS_DIR=/tmp/own
//	go run ./internal/servers/cmd up --only postgres,mariadb
//	HAPAX_SOAK=1 go test -run DatabaseRestarts ./outbox/inbox
func TestTheDatabaseRestarts(t *testing.T) {
	why := "it restarts the servers: bring up some of its own, in a folder named by " + servers.DirVariable
	servers.OnRequest(t, "HAPAX_SOAK", why)
	servers.OnRequest(t, servers.DirVariable, why)
	eachServer(t, func(r *rig) {
		name := map[sqldb.Dialect]string{sqldb.Postgres: servers.Postgres, sqldb.MySQL: servers.MariaDB}[r.dialect]
		h := r.process().handler(r.effect)
		var next, failed atomic.Int32
		done := make(chan struct{})
		var all sync.WaitGroup
		for range 24 {
			all.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					id := fmt.Sprint("event-", next.Add(1))
					for h.deliver(id, "payload") != nil {
						failed.Add(1)
						time.Sleep(20 * time.Millisecond) // a broker's delay of redelivery
					}
				}
			})
		}
		for _, hard := range []bool{servers.Hard, servers.Clean, servers.Hard} {
			before := next.Load()
			require.Eventually(r.t, func() bool { return next.Load() > before+200 }, time.Minute, time.Millisecond)
			require.NoError(r.t, servers.Restart(r.t.Context(), name, hard))
		}
		before := next.Load()
		require.Eventually(r.t, func() bool { return next.Load() > before+200 }, time.Minute, time.Millisecond)
		close(done)
		all.Wait()
		r.t.Logf("%s: %d events, %d failed deliveries", r.dialect, next.Load(), failed.Load())
		require.Positive(r.t, failed.Load())
		require.Eventually(r.t, func() bool { return r.db.Ping() == nil }, time.Minute, 10*time.Millisecond)
		r.exact(int(next.Load()))
	})
}

// Services that start together note how long they want marks kept, in the same row. None
// fails because of the other, whatever the isolation of their transactions is.
func TestServicesThatStartTogether(t *testing.T) {
	r := newRigOn(t, sqldb.Postgres)
	for _, level := range []string{"read-committed", "repeatable-read", "serializable"} {
		r.exec(`UPDATE hapax_inbox_generations SET keep_seconds = 0`)
		first, err := r.db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = first.Exec(`UPDATE hapax_inbox_generations SET keep_seconds = 1`)
		require.NoError(t, err)
		db := sqldbtest.Open(t, r.dsn, sqldb.Options{Isolation: level})
		opened := make(chan error, 1)
		go func() {
			i, err := inbox.Open(context.WithoutCancel(t.Context()), inbox.Options{DB: db, Dialect: r.dialect, Table: schema.Names{}.InboxTable()})
			if err == nil {
				err = i.Close()
			}
			opened <- err
		}()
		require.Eventually(t, func() bool {
			return r.number(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
		}, 30*time.Second, 5*time.Millisecond)
		require.NoError(t, first.Commit())
		require.NoError(t, <-opened, level)
		require.Greater(t, r.number(`SELECT keep_seconds FROM hapax_inbox_generations`), 1)
	}
}
