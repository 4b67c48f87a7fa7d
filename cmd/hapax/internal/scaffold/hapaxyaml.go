package scaffold

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hapax-go/hapax/framework/config"
)

// blocks are the parts of the config package's example that a new service's
// hapax.yaml has.
var blocks = []string{"service", "broker", "sqlite", "kafka", "rabbitmq", "redis", "sqs", "sql", "dedup", "admin"}

const heading = `# What this service runs on. Every broker's block is here; "broker" says which one
# is read. "#key: value" is a setting at its default, or with an example where there
# is none; "# text" explains it. ${NAME} and ${NAME:-default} stand for an
# environment variable, and HAPAX_ with a path in capitals overrides a setting:
# HAPAX_BROKER=kafka HAPAX_KAFKA_BROKERS=a:9092,b:9092
#
# hapax config example   prints every setting there is
# hapax config check     reports every problem, with its line
`

// keyLine is a line of the example that sets something, commented out or not.
var keyLine = regexp.MustCompile(`^( *)(#?)([a-z_]+):( .*)?$`)

// settingsFile is hapax.yaml: the example's blocks, with some settings in force.
func settingsFile(o Options) (File, error) {
	wanted := append([]setting{{"service", o.Name}, {"broker", o.Broker}}, brokers[o.Broker].local...)
	// In force whatever the broker is: the service is to run when that is changed.
	wanted = append(wanted, setting{"rabbitmq.readers", `["` + reader + `"]`})
	if o.SQL != "none" {
		wanted = append(wanted, setting{"sql.dsn", `"` + databases[o.SQL].local + `"`})
	}
	data, err := inForce(config.Example(), wanted)
	return File{Path: config.FileName, Data: data}, err
}

// inForce takes the comment marks off the settings, and off the blocks that they
// stand in.
func inForce(example []byte, wanted []setting) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(heading)
	sections := map[string]string{}
	for section := range strings.SplitSeq(string(example), "\n\n") {
		sections[topKey(section)] = strings.TrimSpace(section) + "\n"
	}
	left := slices.Clone(wanted)
	for _, block := range blocks {
		if sections[block] == "" {
			return nil, fmt.Errorf("make %s: the configuration has no block %q", config.FileName, block)
		}
		out.WriteString("\n")
		var path []string
		for line := range strings.Lines(sections[block]) {
			parts := keyLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
			if parts == nil {
				out.WriteString(line)
				continue
			}
			depth := len(parts[1]) / 2
			path = append(path[:min(depth, len(path))], parts[3])
			key := strings.Join(path, ".")
			at := slices.IndexFunc(left, func(s setting) bool { return s.path == key })
			switch {
			case at >= 0:
				fmt.Fprintf(&out, "%s%s: %s\n", parts[1], parts[3], left[at].value)
				left = slices.Delete(left, at, at+1)
			case slices.ContainsFunc(left, func(s setting) bool { return strings.HasPrefix(s.path, key+".") }):
				fmt.Fprintf(&out, "%s%s:\n", parts[1], parts[3])
			default:
				out.WriteString(line)
			}
		}
	}
	if len(left) > 0 {
		return nil, fmt.Errorf("make %s: the configuration has no setting %q", config.FileName, left[0].path)
	}
	return out.Bytes(), nil
}

// topKey is the key that a section of the example is about.
func topKey(section string) string {
	for line := range strings.Lines(section) {
		if parts := keyLine.FindStringSubmatch(strings.TrimSuffix(line, "\n")); parts != nil && parts[1] == "" {
			return parts[3]
		}
	}
	return ""
}
