package monitoring

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
)

// promtool returns the program: the one that is installed, else the one of Debian's
// package prometheus, unpacked into the cache and installed nowhere. It is fetched
// where real servers are insisted on, as they are.
func promtool(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("promtool"); err == nil {
		return path
	}
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	folder := filepath.Join(cache, "hapax", "tools", "prometheus")
	program := filepath.Join(folder, "usr", "bin", "promtool")
	if _, err := os.Stat(program); err == nil {
		return program
	}
	if !servers.RequireReal() {
		servers.NotRun(t, "promtool", errors.New("promtool is not installed (REQUIRE_REAL=1 fetches it)"))
	}
	// Renamed when complete: an interrupted run leaves nothing to be mistaken.
	require.NoError(t, os.MkdirAll(filepath.Dir(folder), 0o755))
	fresh, err := os.MkdirTemp(filepath.Dir(folder), "prometheus-*.new")
	require.NoError(t, err)
	defer os.RemoveAll(fresh)
	require.NoError(t, os.Chmod(fresh, 0o755))
	fetch := exec.CommandContext(t.Context(), "sh", "-ec", "apt-get -q download prometheus; dpkg -x prometheus_*.deb .; rm prometheus_*.deb")
	fetch.Dir = fresh
	output, err := fetch.CombinedOutput()
	require.NoError(t, err, "REQUIRE_REAL=1: promtool is not installed, and Debian's package prometheus is not to be had: %s", output)
	require.NoError(t, os.Rename(fresh, folder))
	return program
}

// Prometheus' own tool takes the rules and the configuration, and every alert fires
// when it is to and only then.
func TestPromtool(t *testing.T) {
	program := promtool(t)
	for _, arguments := range []string{"check rules alerts.yaml", "check config prometheus.yaml", "test rules alerts_test.yaml"} {
		output, err := exec.CommandContext(t.Context(), program, strings.Fields(arguments)...).CombinedOutput()
		require.NoError(t, err, "promtool %s\n%s", arguments, output)
		t.Logf("promtool %s\n%s", arguments, output)
	}

	rules, err := os.ReadFile("alerts.yaml")
	require.NoError(t, err)
	tests, err := os.ReadFile("alerts_test.yaml")
	require.NoError(t, err)
	for _, rule := range alerts(t) {
		require.Contains(t, string(tests), "alertname: "+rule.Alert+"\n        exp_alerts:", "%s is never seen to fire", rule.Alert)
	}
	// The tests can fail: a rule that never fires does not pass.
	folder := t.TempDir()
	broken := strings.Replace(string(rules), "outcome=\"conflict\"}[15m])) > 0", "outcome=\"conflict\"}[15m])) > 100", 1)
	require.NotEqual(t, string(rules), broken)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "alerts.yaml"), []byte(broken), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "alerts_test.yaml"), tests, 0o600))
	output, err := exec.CommandContext(t.Context(), program, "test", "rules", filepath.Join(folder, "alerts_test.yaml")).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(output), "alertname: HapaxConflict")
}
