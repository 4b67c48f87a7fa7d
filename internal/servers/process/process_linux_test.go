package process

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func shell(t *testing.T, script string) Spec {
	t.Helper()
	return Spec{Name: "node1", Dir: t.TempDir(), Args: []string{"/bin/sh", "-c", script}}
}

func start(t *testing.T, s Spec) identity {
	t.Helper()
	require.NoError(t, Start(s))
	t.Cleanup(func() { require.NoError(t, Stop(t.Context(), s.PIDFile(), true)) })
	id, err := readIdentity(s.PIDFile())
	require.NoError(t, err)
	return id
}

func TestStartRecordsTheProcessAndStopEndsIt(t *testing.T) {
	s := shell(t, "echo hello; exec sleep 60")
	id := start(t, s)
	require.True(t, s.Alive())

	require.NoError(t, Start(s), "a second start finds the first")
	again, err := readIdentity(s.PIDFile())
	require.NoError(t, err)
	require.Equal(t, id, again)

	require.Eventually(t, func() bool {
		log, err := os.ReadFile(s.LogFile())
		return err == nil && len(log) > 0 && string(log[len(log)-6:]) == "hello\n"
	}, 5*time.Second, 5*time.Millisecond)
	require.NoError(t, Stop(t.Context(), s.PIDFile(), false))
	require.False(t, id.alive())
	require.NoFileExists(t, s.PIDFile())
	require.NoError(t, Stop(t.Context(), s.PIDFile(), false), "stopping what is stopped is fine")
}

func TestHardStopTakesChildrenOfOtherSessionsAlong(t *testing.T) {
	s := shell(t, "setsid sleep 61 & wait")
	id := start(t, s)
	var family []identity
	require.Eventually(t, func() bool {
		family = descendants(id.PID)
		return len(family) == 1
	}, 5*time.Second, 5*time.Millisecond)
	require.NoError(t, Stop(t.Context(), s.PIDFile(), true))
	require.False(t, family[0].alive())
}

// The pid lives but belongs to somebody else by now: nothing may be signalled.
func TestAStrangersPIDIsNeverTouched(t *testing.T) {
	stranger := start(t, shell(t, "exec sleep 62"))
	for name, stale := range map[string]identity{
		"other start": {PID: stranger.PID, Started: stranger.Started + "1", Boot: stranger.Boot},
		"other boot":  {PID: stranger.PID, Started: stranger.Started, Boot: "before the reboot"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "node1.pid")
			require.NoError(t, stale.write(file))
			require.NoError(t, Stop(t.Context(), file, true))
			require.True(t, stranger.alive())
			require.NoFileExists(t, file)
		})
	}
}

func TestAKilledProcessIsNotAlive(t *testing.T) {
	s := shell(t, "exec sleep 63")
	id := start(t, s)
	p, err := os.FindProcess(id.PID)
	require.NoError(t, err)
	require.NoError(t, p.Kill())
	// Nobody waits for it, so it stays as a zombie: dead all the same.
	require.Eventually(t, func() bool { return !s.Alive() }, 5*time.Second, 5*time.Millisecond)
	require.FileExists(t, s.PIDFile())
	require.NoError(t, Start(s))
	require.True(t, s.Alive())
}

func TestAnUnreadablePIDFileIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "node1.pid")
	require.NoError(t, os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())), 0o644))
	require.ErrorContains(t, Stop(t.Context(), file, true), file)
}
