package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Reserved lists the variables that begin with HAPAX_ and are no settings.
var Reserved = []string{
	"HAPAX_CONFIG", // the file to load when no path is given
}

// override applies the HAPAX_ variables. A list is separated by commas; a map is
// JSON and replaces the whole map.
func (d *decoder) override() {
	file := d.source
	known := slices.Clone(Reserved)
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
		if !strings.HasPrefix(name, "HAPAX_") || slices.Contains(known, name) {
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
