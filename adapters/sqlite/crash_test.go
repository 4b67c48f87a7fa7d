package sqlite_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/adapters/sqlite"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// The test binary is also the consumer that the tests kill.
const (
	childFile  = "HAPAX_TEST_CHILD_FILE"
	childKills = "HAPAX_TEST_CHILD_KILLS"
)

func TestMain(m *testing.M) {
	if os.Getenv(childFile) == "" {
		goleak.VerifyTestMain(m)
	}
	os.Exit(m.Run())
}

func shortLease(c *sqlite.Config) { c.LeaseDuration = 2 * time.Second }

// TestChild is not a test: it is the consumer process.
func TestChild(t *testing.T) {
	path := os.Getenv(childFile)
	if path == "" {
		return
	}
	if kills := os.Getenv(childKills); kills != "" {
		require.NoError(t, failpoint.ArmKills(kills))
	}
	stop := serve(t, openBroker(t, path, shortLease), ship, nil)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent closes it, or is gone
	stop()
}

type child struct {
	*exec.Cmd
	stdin io.Closer
}

func startChild(t *testing.T, path, kills string) child {
	t.Helper()
	command := exec.Command(os.Args[0], "-test.run=^TestChild$")
	command.Env = append(os.Environ(), childFile+"="+path, childKills+"="+kills)
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	return child{command, stdin}
}

// killed waits until the child has died of SIGKILL.
func (c child) killed(t *testing.T) {
	t.Helper()
	_ = c.Wait()
	status := c.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, status.Signaled() && status.Signal() == syscall.SIGKILL, "child ended with %s, expected to be killed", c.ProcessState)
}

func (c child) finish(t *testing.T) {
	t.Helper()
	require.NoError(t, c.stdin.Close())
	require.NoError(t, c.Wait())
}

const keys = 41

// copies returns n events and, among them, a second copy of every fifth.
func copies(n int) []*message.Message {
	var msgs []*message.Message
	for i := range n {
		id := fmt.Sprint("event", i)
		msgs = append(msgs, event(id, fmt.Sprint("key", i%keys)))
		if i%5 == 0 {
			msgs = append(msgs, event(id, fmt.Sprint("key", (i+1)%keys)))
		}
	}
	return msgs
}

// Killed at each point of the processing order, by a signal that nothing catches,
// the consumer's successor makes it one effect and one output for each event.
func TestKilledAtEveryPoint(t *testing.T) {
	for _, point := range []failpoint.Point{
		failpoint.AfterClaim, failpoint.AfterHandle, failpoint.BeforeMark, failpoint.AfterMark, failpoint.BeforeAck, failpoint.AfterAck,
	} {
		t.Run(string(point), func(t *testing.T) {
			path := file(t)
			broker := openBroker(t, path, shortLease)
			createEffects(t, broker)
			publish(t, broker, copies(60)...)
			for _, hit := range []int{1, 4} {
				startChild(t, path, fmt.Sprintf("%s@%d", point, hit)).killed(t)
			}
			last := startChild(t, path, "")
			drained(t, broker)
			last.finish(t)
			exactlyOnce(t, broker, 60)
		})
	}
}

// Three consumers, one of them killed every moment and replaced.
func TestKilledAtRandom(t *testing.T) {
	path := file(t)
	broker := openBroker(t, path, shortLease)
	createEffects(t, broker)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const events = 1500
	var publishing sync.WaitGroup
	publishing.Go(func() {
		msgs := copies(events)
		for i := 0; i < len(msgs); i += 20 {
			require.NoError(t, broker.Publisher().Publish(input, msgs[i:min(i+20, len(msgs))]...))
			time.Sleep(time.Millisecond) // spread over the kills
		}
	})
	consumers := []child{startChild(t, path, ""), startChild(t, path, ""), startChild(t, path, "")}
	for range 8 {
		time.Sleep(time.Duration(100+random.IntN(300)) * time.Millisecond)
		victim := random.IntN(len(consumers))
		require.NoError(t, consumers[victim].Process.Kill())
		consumers[victim].killed(t)
		consumers[victim] = startChild(t, path, "")
	}
	publishing.Wait()
	drained(t, broker)
	for _, consumer := range consumers {
		consumer.finish(t)
	}
	exactlyOnce(t, broker, events)
	outOfOrder(t, broker)
}

// outOfOrder checks that the effects of each key have the order in which their
// events were published. (Second copies have no effect and no order.)
func outOfOrder(t *testing.T, broker *sqlite.Broker) {
	t.Helper()
	rows, err := broker.DB().Query(`SELECT CAST(substr(event, 6) AS INTEGER) FROM effects ORDER BY rowid`)
	require.NoError(t, err)
	defer rows.Close()
	last := map[int]int{}
	for rows.Next() {
		var n int
		require.NoError(t, rows.Scan(&n))
		if n%5 == 0 {
			continue // its second copy has another key, and may have been first
		}
		require.GreaterOrEqual(t, n, last[n%keys], "key%d", n%keys)
		last[n%keys] = n
	}
	require.NoError(t, rows.Err())
}

// A consumer that is stopped for longer than its lease wakes up as a zombie.
func TestStoppedProcessIsReplaced(t *testing.T) {
	path := file(t)
	broker := openBroker(t, path, shortLease)
	createEffects(t, broker)
	const events = 500
	publish(t, broker, copies(events)...)
	zombie, heir := startChild(t, path, ""), startChild(t, path, "")
	for range 3 {
		time.Sleep(50 * time.Millisecond) // anywhere in its work
		require.NoError(t, zombie.Process.Signal(syscall.SIGSTOP))
		time.Sleep(3 * time.Second)
		require.NoError(t, zombie.Process.Signal(syscall.SIGCONT))
	}
	drained(t, broker)
	zombie.finish(t)
	heir.finish(t)
	exactlyOnce(t, broker, events)
}
