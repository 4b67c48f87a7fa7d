package redis

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What the library logs by itself goes where Hapax's own log goes.
func TestLibraryLogsWithTheService(t *testing.T) {
	libraryLogged = sync.Once{}
	logLibrary(slog.New(slog.DiscardHandler)) // nobody listens: the next one may
	var log lockedLog
	_, err := Connect(t.Context(), Config{
		Addresses: []string{"127.0.0.1:1"}, Password: "hunter2", Timeout: time.Second, Logger: slog.New(slog.NewJSONHandler(&log, nil)),
	})
	require.Error(t, err)
	require.Contains(t, log.String(), `"level":"WARN","msg":"redis client: `)
	require.NotContains(t, log.String(), "hunter2")
}

// lockedLog is written to by the library's goroutines too.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
