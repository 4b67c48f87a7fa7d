package servers_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/live"
	"github.com/hapax-go/hapax/internal/servers"
)

// The report names the package that was tested, not a helper that asked for the
// server, also where a subtest runs in the helper's own function.
func TestTheReportNamesTheTestedPackage(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(servers.DirVariable, dir)
	live.New(t, "sqlite")
	entries, err := servers.ReadReport(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, "./internal/servers", entries[0].Package)
}
