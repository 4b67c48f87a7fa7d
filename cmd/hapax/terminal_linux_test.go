package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Commands that ask nobody leave what was typed ahead to the next one: several pasted at
// once all run.
func TestCommandsLeaveWhatWasTypedAhead(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "hapax")
	output, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, string(output))

	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil && os.Getenv("REQUIRE_REAL") != "1" {
		t.Skip("this system has no pseudo-terminals: ", err)
	}
	require.NoError(t, err)
	defer ours.Close()
	require.NoError(t, unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	theirs, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	defer theirs.Close()

	_, err = ours.WriteString("typed ahead\n")
	require.NoError(t, err)
	command := exec.Command(binary, "--version")
	command.Env = append(os.Environ(), "TERM=xterm", "CI=")
	command.Stdin, command.Stdout, command.Stderr = theirs, theirs, theirs
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, command.Run())
	shown := make([]byte, 4096)
	n, err := ours.Read(shown)
	require.NoError(t, err)
	require.False(t, strings.Contains(string(shown[:n]), "\x1b"), "%q", shown[:n])
	n, err = theirs.Read(shown)
	require.NoError(t, err)
	require.Equal(t, "typed ahead\n", string(shown[:n]))
}
