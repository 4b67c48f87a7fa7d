// Package failpoint names the places in the real code path where a crash or an
// error is most likely to break a guarantee, and lets fault tests strike there.
//
// Points are compiled in and disarmed: a disarmed Hit is one atomic load. Nothing
// in a production process arms them; the fault harness does so in the child
// processes it starts.
package failpoint

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// Point is a named place in the code path.
type Point string

// The points, in processing order.
const (
	AfterClaim    Point = "after-claim"
	AfterHandle   Point = "after-handle"
	BeforePublish Point = "before-publish"
	AfterPublish  Point = "after-publish"
	BeforeMark    Point = "before-mark"
	AfterMark     Point = "after-mark"
	BeforeAck     Point = "before-ack"
	AfterAck      Point = "after-ack"
	RelayClaimed  Point = "relay-claimed"
	RelaySent     Point = "relay-sent"
)

// Points lists every point, for sweeps.
var Points = []Point{
	AfterClaim, AfterHandle, BeforePublish, AfterPublish, BeforeMark, AfterMark,
	BeforeAck, AfterAck, RelayClaimed, RelaySent,
}

// Action is what happens at an armed point. An error it returns is returned by Hit.
type Action func() error

var (
	armed   atomic.Bool
	mu      sync.Mutex
	actions = map[Point]Action{}
)

// Hit runs the point's action, if it is armed.
func Hit(point Point) error {
	if armed.Load() {
		return hit(point)
	}
	return nil
}

// hit is apart from Hit so that a disarmed point is no call.
func hit(point Point) error {
	mu.Lock()
	action := actions[point]
	mu.Unlock()
	if action == nil {
		return nil
	}
	if err := action(); err != nil {
		return fmt.Errorf("failpoint %s: %w", point, err)
	}
	return nil
}

// Arm sets the action of a point and returns the function that disarms it.
func Arm(point Point, action Action) (disarm func()) {
	mu.Lock()
	defer mu.Unlock()
	actions[point] = action
	armed.Store(true)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		delete(actions, point)
		armed.Store(len(actions) > 0)
	}
}

// Kill is the action of a crash: SIGKILL to the own process, so that no deferred
// call, buffer flush or exit handler can make it gentler than it is.
func Kill() error {
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		return err
	}
	select {} // the signal is on its way
}

// OnHit runs action at the nth hit only, counting from 1.
func OnHit(n int64, action Action) Action {
	var hits atomic.Int64
	return func() error {
		if hits.Add(1) != n {
			return nil
		}
		return action()
	}
}
