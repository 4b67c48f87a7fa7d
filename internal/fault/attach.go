package fault

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/hapax-go/hapax/internal/failpoint"
)

// linkDescriptor is where a child finds the pipe to its harness.
const linkDescriptor = 3

// ChildMain turns the process into a child, if a harness started it as one: it
// runs the role's function and exits with its result. In any other process it
// returns at once. Call it first in TestMain or main:
//
//	func TestMain(m *testing.M) {
//		fault.ChildMain(map[string]func(context.Context, []string) int{"consumer": consume})
//		goleak.VerifyTestMain(m)
//	}
//
// The function's context ends at SIGTERM; Ready and Emit speak to the harness
// through it.
func ChildMain(roles map[string]func(ctx context.Context, args []string) int) {
	role := os.Getenv(envRole)
	if role == "" {
		return
	}
	run, known := roles[role]
	if !known {
		fmt.Fprintf(os.Stderr, "run child: role %q is unknown to this program\n", role)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	ctx, err := Attach(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// Attach connects a child to its harness: it arms the failpoints the harness
// asked for, ties the child's life to the harness's, and returns the context
// through which Ready and Emit speak. In a process that no harness started it
// returns the context as it is. Call it once; ChildMain does.
func Attach(ctx context.Context) (context.Context, error) {
	if os.Getenv(envLink) != "1" {
		return ctx, nil
	}
	if err := ArmFromEnv(); err != nil {
		return ctx, err
	}
	for _, name := range []string{envLink, envRole, envFailpoints} {
		if err := os.Unsetenv(name); err != nil { // what this child starts is no child of the harness
			return ctx, fmt.Errorf("attach to harness: %w", err)
		}
	}
	syscall.CloseOnExec(linkDescriptor)
	go dieWithHarness()
	return context.WithValue(ctx, linkKey{}, &link{pipe: os.NewFile(linkDescriptor, "harness")}), nil
}

// dieWithHarness waits for the end of standard input, whose other end only the
// harness holds: it ends when the harness does, however that dies.
func dieWithHarness() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = failpoint.Kill()
}

type linkKey struct{}

// link is the child's end of descriptor 3.
type link struct {
	mu   sync.Mutex // keeps lines whole when they are longer than the pipe's atomic write
	pipe *os.File
}

func (l *link) send(line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.pipe.Write(append(line, '\n'))
	return err
}

// Ready tells the harness that the child works. Without a harness it does
// nothing.
func Ready(ctx context.Context) error {
	link, ok := ctx.Value(linkKey{}).(*link)
	if !ok {
		return nil
	}
	if err := link.send([]byte("ready")); err != nil {
		return fmt.Errorf("report ready to harness: %w", err)
	}
	return nil
}

// Emit sends a value to the harness, as JSON, for the Command's OnEvent. It
// waits while the harness is busy. Without a harness it does nothing.
func Emit(ctx context.Context, value any) error {
	link, ok := ctx.Value(linkKey{}).(*link)
	if !ok {
		return nil
	}
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("send event to harness: %w", err)
	}
	if err := link.send(bytes.Join([][]byte{[]byte("event"), data}, []byte(" "))); err != nil {
		return fmt.Errorf("send event to harness: %w", err)
	}
	return nil
}
