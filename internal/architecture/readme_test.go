package architecture

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
)

const root = "../../"

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(root + name)
	require.NoError(t, err)
	return string(text)
}

// The README shows the files that it links to, not copies that drift.
func TestTheReadmeShowsTheFirstService(t *testing.T) {
	readme := read(t, "README.md")
	require.Contains(t, readme, "```go\n"+read(t, "examples/first/main.go")+"```")
	require.Contains(t, readme, "```yaml\n"+read(t, "examples/first/hapax.yaml")+"```")
}

// Its rules table is the one in the code.
func TestTheReadmeShowsTheRulesTable(t *testing.T) {
	table := "| broker | strategy | what the broker does | what Hapax adds, because the broker alone is not enough |\n|---|---|---|---|\n"
	for _, rule := range append(append([]dedup.Rule{}, dedup.Rules...), dedup.SQLRule) {
		table += fmt.Sprintf("| %s | `%s` | %s | %s |\n", rule.Broker, rule.Strategy, rule.BrokerDoes, rule.HapaxAdds)
	}
	require.Contains(t, read(t, "README.md"), table)
}

// CI runs the README's test command.
func TestCIRunsTheReadmesTestCommand(t *testing.T) {
	require.Contains(t, read(t, "README.md"), "```sh\nmake test\n```")
	require.True(t, strings.HasSuffix(read(t, ".ci/run"), "exec make test\n"))
}
