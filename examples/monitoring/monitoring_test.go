package monitoring

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// check runs the checker on rule files and expressions, and returns the metrics they
// ask for.
func check(t *testing.T, expressions []string, files ...string) ([]string, error) {
	t.Helper()
	command := exec.Command("go", append([]string{"run", "-C", "check", "."}, files...)...)
	command.Stdin = strings.NewReader(strings.Join(expressions, "\n"))
	var problems bytes.Buffer
	command.Stderr = &problems
	output, err := command.Output()
	if err != nil {
		t.Log(problems.String())
	}
	return strings.Fields(string(output)), err
}

// declared are the metrics that the sources name: a literal that begins with hapax_
// in the files that make metrics.
func declared(t *testing.T) []string {
	t.Helper()
	files := []string{"../../adapters/figures.go", "../../framework/metrics.go"}
	more, err := filepath.Glob("../../adapters/*/figures.go")
	require.NoError(t, err)
	require.NotEmpty(t, more)
	var names []string
	for _, file := range append(files, more...) {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, match := range regexp.MustCompile(`"(hapax_[a-z_]+)"`).FindAllStringSubmatch(string(source), -1) {
			names = append(names, match[1])
			if strings.HasSuffix(match[1], "_duration_seconds") {
				names = append(names, match[1]+"_bucket", match[1]+"_sum", match[1]+"_count")
			}
		}
	}
	return names
}

func requireDeclared(t *testing.T, asked []string) {
	t.Helper()
	known := declared(t)
	for _, name := range asked {
		require.Contains(t, known, name, "no code makes this metric")
	}
}

type alert struct {
	Alert       string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alert } }
	text, err := os.ReadFile("alerts.yaml")
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, &file))
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	require.NotEmpty(t, all)
	return all
}

func TestAlertRules(t *testing.T) {
	asked, err := check(t, nil, "../alerts.yaml")
	require.NoError(t, err)
	requireDeclared(t, asked)
	for _, needed := range []string{ // what must never go unnoticed
		"hapax_duplicates_total", "hapax_events_total", "hapax_dead_letters_total", "hapax_outbox_age_seconds", "hapax_lease_takeovers_total", "hapax_reported_lost_total",
	} {
		require.Contains(t, asked, needed)
	}
	for _, rule := range alerts(t) {
		require.Contains(t, []string{"warning", "critical"}, rule.Labels["severity"], rule.Alert)
		require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
		require.NotEmpty(t, rule.Annotations["description"], rule.Alert)
	}
}

// The check itself can fail.
func TestBrokenRulesAreFound(t *testing.T) {
	file := filepath.Join(t.TempDir(), "broken.yaml")
	require.NoError(t, os.WriteFile(file, []byte("groups: [{name: a, rules: [{alert: B, expr: 'rate(x)'}]}]\n"), 0o600))
	_, err := check(t, nil, file)
	require.Error(t, err)
	asked, err := check(t, []string{"sum(rate(hapax_nothing_total[5m]))"})
	require.NoError(t, err)
	require.Equal(t, []string{"hapax_nothing_total"}, asked)
	require.NotContains(t, declared(t), asked[0])
}

func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("dashboard.json")
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	var ids []int
	var expressions []string
	for _, panel := range dashboard.Panels {
		require.NotContains(t, ids, panel.ID)
		ids = append(ids, panel.ID)
		require.NotEmpty(t, panel.Title)
		require.Equal(t, panel.Type == "row", len(panel.Targets) == 0, panel.Title)
		for _, target := range panel.Targets {
			expressions = append(expressions, strings.NewReplacer("$__rate_interval", "5m", "$job", ".*").Replace(target.Expr))
		}
	}
	require.Greater(t, len(expressions), 20)
	asked, err := check(t, expressions)
	require.NoError(t, err)
	requireDeclared(t, asked)
	require.True(t, slices.Contains(asked, "hapax_duplicates_total"))
}
