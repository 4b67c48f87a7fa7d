package inbox_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/outbox/sqldb"
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
