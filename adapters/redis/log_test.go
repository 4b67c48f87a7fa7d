package redis

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/written"
)

// What the library logs by itself goes where Hapax's own log goes.
func TestLibraryLogsWithTheService(t *testing.T) {
	libraryLogged = sync.Once{}
	logLibrary(slog.New(slog.DiscardHandler)) // nobody listens: the next one may
	var log written.Text
	_, err := Connect(t.Context(), Config{
		Addresses: []string{"127.0.0.1:1"}, Password: "hunter2", Timeout: time.Second, Logger: slog.New(slog.NewJSONHandler(&log, nil)),
	})
	require.Error(t, err)
	require.Contains(t, log.String(), `"level":"WARN","msg":"redis client: `)
	require.NotContains(t, log.String(), "hunter2")
}
