package fault

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hapax-go/hapax/internal/failpoint"
)

// ArmFromEnv arms the failpoints named in HAPAX_FAILPOINTS; Command.Failpoints says how
// they are written. Only children of a harness call it. A name that is no failpoint is an
// error: a fault that never strikes proves nothing.
func ArmFromEnv() error {
	specification := os.Getenv(envFailpoints)
	if specification == "" {
		return nil
	}
	for item := range strings.SplitSeq(specification, ",") {
		if err := arm(item); err != nil {
			return fmt.Errorf("read %s: %w", envFailpoints, err)
		}
	}
	return nil
}

func arm(item string) error {
	name, when, _ := strings.Cut(item, "@")
	if !slices.Contains(failpoint.Points, failpoint.Point(name)) {
		return fmt.Errorf("unknown failpoint %q, expected one of %v", name, failpoint.Points)
	}
	at, pause, pauses := strings.Cut(when, ":")
	n, err := strconv.ParseInt(at, 10, 64)
	if err != nil || n < 1 {
		return fmt.Errorf("parse failpoint %q: expected point@hit, such as %s@1", item, failpoint.AfterHandle)
	}
	action := failpoint.Action(failpoint.Kill)
	if pauses {
		length, err := time.ParseDuration(pause)
		if err != nil || length <= 0 {
			return fmt.Errorf("parse failpoint %q: expected point@hit:pause, such as %s@1:3s", item, failpoint.AfterHandle)
		}
		action = func() error { return freeze(length) }
	}
	failpoint.Arm(failpoint.Point(name), failpoint.OnHit(n, action))
	return nil
}

// freeze stops the own process at once. A process that stands still cannot thaw itself,
// so another one does it.
func freeze(length time.Duration) error {
	thaw := exec.Command("sh", "-c", fmt.Sprintf("sleep %g; kill -CONT %d", length.Seconds(), os.Getpid()))
	if err := thaw.Start(); err != nil {
		return err
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
		return err
	}
	return thaw.Wait() // it ends at the thaw
}
