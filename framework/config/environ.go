package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// configVariable names the file to load when no path is given.
const configVariable = "HAPAX_CONFIG"

// Reserved lists the variables that begin with HAPAX_ and are no settings; one that
// ends in _ stands for all that begin with it. But for the first they are those of
// Hapax's own tests and tools, which run services and commands too.
var Reserved = []string{
	configVariable,
	"HAPAX_FAILPOINTS", "HAPAX_FAKE_REDIS", "HAPAX_FAULT_", "HAPAX_LOG", "HAPAX_MARKS", "HAPAX_PORT_", "HAPAX_RESTART",
	"HAPAX_SERVERS_", "HAPAX_SOAK", "HAPAX_SOAK_", "HAPAX_TEST_",
}

func reserved(name string) bool {
	return slices.ContainsFunc(Reserved, func(known string) bool {
		return name == known || strings.HasSuffix(known, "_") && strings.HasPrefix(name, known)
	})
}

// override applies the HAPAX_ variables. A list is separated by commas; a map is
// JSON and replaces the whole map.
func (d *decoder) override() {
	file := d.source
	known := []string{configVariable}
	walk(reflect.ValueOf(d.config).Elem(), "", func(f field, path string, target reflect.Value) {
		name := variable(path)
		known = append(known, name)
		text, set := d.env[name]
		if !set {
			return
		}
		d.source = origin{variable: name}
		d.config.origins[path] = d.source
		if f.shape() != mapping {
			d.store(target, f, found{text: text}, nil, path, d.source)
			return
		}
		node, problem := parse(text)
		switch {
		case problem != nil:
			d.problems.add(d.source, path, "%s: %s: expected JSON such as {%q: {}}", path, problem.message, f.example())
		case node == nil:
			d.problems.add(d.source, path, "%s: found nothing, expected JSON such as {%q: {}}, or {} for none", path, f.example())
		default:
			d.mapping(entry{value: node, node: node}, target, path)
		}
	})
	d.source = file

	for _, name := range slices.Sorted(maps.Keys(d.env)) {
		if !strings.HasPrefix(name, "HAPAX_") || slices.Contains(known, name) || reserved(name) {
			continue
		}
		advice := "a setting's variable is HAPAX_ and its path in capitals, joined by _; name variables of your own differently"
		if near := nearest(name, known); near != "" {
			advice = "did you mean " + near + "?"
		}
		d.problems.add(origin{variable: name}, "", "unknown variable: %s", advice)
	}
}

func environment(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok {
			env[name] = value
		}
	}
	return env
}
