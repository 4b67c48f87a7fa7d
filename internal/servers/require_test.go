package servers

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// outcome is a test that notes how it ended instead of ending.
type outcome struct {
	testing.TB
	skipped, failed string
}

func (o *outcome) Skipf(format string, args ...any)  { o.skipped = fmt.Sprintf(format, args...) }
func (o *outcome) Fatalf(format string, args ...any) { o.failed = fmt.Sprintf(format, args...) }

func TestRequireNotesWhatRanAndWhatDidNot(t *testing.T) {
	host := listening(t)
	dir := recorded(t, host)
	t.Setenv("REQUIRE_REAL", "")

	require.Equal(t, []string{host}, Require(t, Redis).Hosts)
	missing := &outcome{TB: t}
	Require(missing, Kafka)
	require.Contains(t, missing.skipped, "not run: no kafka server")
	require.Empty(t, missing.failed)
	RanInProcess(t, "kfake", "v0")
	onRequest := &outcome{TB: t}
	t.Setenv("HAPAX_SOAK", "")
	OnRequest(onRequest, "HAPAX_SOAK", "it takes minutes")
	require.Equal(t, "not run: it takes minutes; set HAPAX_SOAK", onRequest.skipped)

	entries, err := ReadReport(dir)
	require.NoError(t, err)
	require.Len(t, entries, 4)
	for _, e := range entries {
		require.Equal(t, "./internal/servers", e.Package)
		require.Equal(t, t.Name(), e.Test)
	}
	require.Equal(t, Entry{Server: Redis, Version: "7.0.15", Address: host, Origin: FromNative,
		Package: "./internal/servers", Test: t.Name()}, entries[0])
	require.Contains(t, entries[1].NotRun, "no kafka server")

	var out strings.Builder
	require.NoError(t, Report(&out, entries, nil))
	require.Regexp(t, `redis +7\.0\.15 +127\.0\.0\.1:\d+ +native +1 +\./internal/servers`, out.String())
	require.Regexp(t, `kfake +v0 +- +in process +1`, out.String())
	require.Contains(t, out.String(), "NOT RUN, 1 tests, kafka: no kafka server")
	require.Contains(t, out.String(), "NOT RUN, 1 tests, on request with HAPAX_SOAK: it takes minutes")
	require.Contains(t, out.String(), "./internal/servers "+t.Name())
}

func TestRequireFailsWhenTheRealOnesAreRequired(t *testing.T) {
	recorded(t, "a:1")
	t.Setenv("REQUIRE_REAL", "1")
	missing := &outcome{TB: t}
	Require(missing, Kafka)
	require.Contains(t, missing.failed, "no kafka server")
	RequireProgram(missing, "no-such-server")
	require.Contains(t, missing.failed, "no-such-server is not installed")
}

func TestReportCountsATestOnceAndAsksForUnknownVersions(t *testing.T) {
	same := Entry{Server: Redis, Address: "a:1", Origin: FromEnvironment, Package: "./p", Test: "T"}
	var out strings.Builder
	require.NoError(t, Report(&out, []Entry{same, same}, func(e Entry) string { return "asked " + e.Server }))
	require.Regexp(t, `redis +asked redis +a:1 +environment +1 +\./p`, out.String())
}

func TestAnEmptyReportSaysWhy(t *testing.T) {
	var out strings.Builder
	require.NoError(t, Report(&out, nil, nil))
	require.Contains(t, out.String(), "-count=1")
}

func TestADamagedReportNamesTheLine(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Entry{Server: Redis}.append(dir))
	require.NoError(t, os.WriteFile(ReportFile(dir), []byte("{}\nnonsense\n"), 0o644))
	_, err := ReadReport(dir)
	require.ErrorContains(t, err, ReportFile(dir)+":2")
}
