package ledgertest

import (
	"flag"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/dedup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// faults are all that broken knows.
var faults = []string{
	"marks on claim", "forgets on completion", "says duplicate while in flight",
	"keeps old outcomes", "cannot do nothing", "stops at the first that is not fresh",
	"ignores the token on complete", "ignores the token on renew", "ignores the token on release",
	"counts claims instead of tokens", "completes what was not claimed",
	"keeps leases for ever", "halves leases", "does not renew", "leases only the first entry for the time asked",
	"cannot complete an expired lease", "cannot renew an expired lease",
	"does not release", "marks on release", "releases marks", "refuses a second release",
	"drops the digest", "compares half of the digest", "takes the zero digest for a payload",
	"replaces the digest on a conflict", "does not compare payloads of leases", "does not compare payloads within a call",
	"keeps marks for ever", "halves the window", "counts the window from the claim", "extends the mark of a duplicate",
	"looks into the current generation only",
	"does not know its own token", "keeps the old lease on a retry", "loses a repeated completion",
	"decides a batch on what was there before", "takes a copy for a retry",
	"cuts batches at 500", "checks, then acts",
	"compares eight bytes", "ignores the last byte", "ignores the handler", "refuses odd text",
	"forgets when reopened", "keeps peers apart",
}

func brokenHarness(fault string, window time.Duration) Harness {
	clock := &clock{}
	ledger := newBroken(fault, clock, window)
	another := func(apart string) func() dedup.Ledger {
		return func() dedup.Ledger {
			if fault == apart {
				return newBroken(fault, clock, window)
			}
			return ledger
		}
	}
	return Harness{
		Ledger: ledger, Advance: clock.Advance,
		Peer: another("keeps peers apart"), Reopen: another("forgets when reopened"),
	}
}

func TestSuitePassesACorrectLedger(t *testing.T) {
	Run(t, func(_ *testing.T, options Options) Harness { return brokenHarness("", options.Window) })
}

// TestSuiteCatchesEveryFault proves the suite: each fault is caught by a check,
// and there is no check that catches none.
func TestSuiteCatchesEveryFault(t *testing.T) {
	// The property's failures are expected here: do not minimise or save them.
	for name, value := range map[string]string{"rapid.nofailfile": "true", "rapid.shrinktime": "0s"} {
		old := flag.Lookup(name).Value.String()
		require.NoError(t, flag.Set(name, value))
		t.Cleanup(func() { require.NoError(t, flag.Set(name, old)) })
	}
	catches := map[string]int{}
	for _, fault := range faults {
		t.Run(fault, func(t *testing.T) {
			var caught []string
			for _, check := range checks() {
				if fails(t, check, brokenHarness(fault, check.window)) {
					caught = append(caught, check.name)
					catches[check.name]++
				}
			}
			require.NotEmpty(t, caught, "no check fails when a ledger %s", fault)
			t.Logf("caught by %q", caught)
		})
	}
	for _, check := range checks() {
		require.NotZero(t, catches[check.name], "%s fails for none of the faults", check.name)
	}
}

// recorder takes a check's failure for itself.
type recorder struct {
	*testing.T
	mutex  sync.Mutex
	failed bool
}

func (r *recorder) Fail() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.failed = true
}

func (r *recorder) Failed() bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.failed
}

func (r *recorder) FailNow()              { r.Fail(); runtime.Goexit() }
func (r *recorder) Error(...any)          { r.Fail() }
func (r *recorder) Errorf(string, ...any) { r.Fail() }
func (r *recorder) Fatal(...any)          { r.FailNow() }
func (r *recorder) Fatalf(string, ...any) { r.FailNow() }
func (r *recorder) Log(...any)            {}
func (r *recorder) Logf(string, ...any)   {}
func (r *recorder) Skip(args ...any)      { panic(fmt.Sprint("skipped: ", fmt.Sprint(args...))) }

// fails runs a check the way a test would, in a goroutine that a failure ends.
func fails(t *testing.T, check check, harness Harness) bool {
	recorder := &recorder{T: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		check.run(recorder, harness)
	}()
	<-done
	return recorder.Failed()
}
