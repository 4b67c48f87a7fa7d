package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// decoder fills a Config from YAML and notes every problem on the way.
type decoder struct {
	config   *Config
	env      map[string]string
	problems problems

	// source is the file, or the variable, whose nodes are being read. What a
	// variable holds is literal: it has no ${NAME} in it.
	source origin
	// late runs when everything else is decided, because a handler inherits
	// from blocks that may stand below it, or in a variable.
	late []func()
}

// at is the place of a node, or of the key it belongs to.
func (d *decoder) at(node ast.Node) origin {
	place := d.source
	if token := node.GetToken(); token != nil && token.Position != nil {
		place.line, place.column = token.Position.Line, token.Position.Column
	}
	return place
}

// block reads the keys of a struct.
func (d *decoder) block(node ast.Node, target reflect.Value, path string) {
	fields := fieldsOf(target.Type())
	for _, entry := range d.entries(node, path) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == entry.key })
		if i < 0 {
			d.unknown(entry, fields, path)
			continue
		}
		d.field(fields[i], entry, target.FieldByIndex(fields[i].Index), join(path, entry.key))
	}
}

func (d *decoder) field(f field, entry entry, target reflect.Value, path string) {
	place := d.at(entry.value)
	if f.shape() == block || f.shape() == mapping || entry.value.Type() == ast.NullType {
		place = d.at(entry.node)
	}
	d.config.origins[path] = place
	switch f.shape() {
	case block:
		d.block(entry.value, target, path)
	case mapping:
		d.mapping(entry, target, path)
	case list:
		d.list(f, entry.value, target, path, place)
	default:
		d.scalar(f, entry.value, target, path, place)
	}
}

// mapping reads a map of structs. It replaces the map: what a variable holds is
// not merged with what the file has.
func (d *decoder) mapping(entry entry, target reflect.Value, path string) {
	source := d.source
	fill := func() {
		outer := d.source
		d.source = source
		defer func() { d.source = outer }()

		target.Set(reflect.MakeMap(target.Type()))
		for _, entry := range d.entries(entry.value, path) {
			element := reflect.New(target.Type().Elem()).Elem()
			if handler, ok := element.Addr().Interface().(*Handler); ok {
				*handler = d.config.inherited()
			}
			path := path + bracket(entry.key)
			d.config.origins[path] = d.at(entry.node)
			d.block(entry.value, element, path)
			target.SetMapIndex(reflect.ValueOf(entry.key), element)
		}
	}
	if target.Type().Elem() == reflect.TypeFor[Handler]() {
		d.late = append(d.late, fill)
		return
	}
	fill()
}

// bracket appends a map's key to a path; quoted when it could be misread.
func bracket(key string) string {
	if matches(`^[A-Za-z0-9_-]+$`, key) {
		return "." + key
	}
	return "[" + quoted([]string{key}) + "]"
}

// list reads a list of strings; a single value stands for a list only when it
// comes from a variable, as in brokers: "${BROKERS}", separated by commas.
func (d *decoder) list(f field, node ast.Node, target reflect.Value, path string, place origin) {
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		if text, literal := textOf(node); literal {
			value, err := d.expand(text)
			if value.used || err != nil {
				d.store(target, f, found{text: value.text, source: text, empty: value.empty}, err, path, place)
				return
			}
		}
		d.problems.add(place, path, "%s: found %s, expected %s", path, describe(node), f.expected())
		return
	}
	items := make([]string, 0, len(sequence.Values))
	for _, item := range sequence.Values {
		place := d.at(item)
		text, literal := textOf(item)
		if !literal || !isString(item) {
			d.problems.add(place, path, "%s: found %s in the list, expected %s", path, describe(item), f.expected())
			continue
		}
		value, err := d.expand(text)
		if err != nil {
			d.problems.add(place, path, "%s: %s", path, oneLine(err))
			continue
		}
		items = append(items, value.text)
	}
	target.Set(reflect.ValueOf(items))
}

func (d *decoder) expand(text string) (expanded, error) {
	if d.source.variable != "" {
		return expanded{text: text}, nil
	}
	return interpolate(text, d.env)
}

// entry is a key of a mapping with its value.
type entry struct {
	key   string
	node  ast.Node
	value ast.Node
}

// entries lists a mapping's keys; a key without a value, such as "kafka:" with
// everything below it commented out, is an empty block.
func (d *decoder) entries(node ast.Node, path string) []entry {
	if node == nil || node.Type() == ast.NullType || node.Type() == ast.CommentType {
		return nil
	}
	pairs, ok := node.(ast.MapNode)
	if !ok {
		d.problems.add(d.at(node), path, "%s: found %s, expected keys", path, describe(node))
		return nil
	}
	var entries []entry
	for pair := pairs.MapRange(); pair.Next(); {
		key, literal := textOf(pair.Key())
		if !literal {
			d.problems.add(d.at(pair.Key()), path, "found %s as a key, expected a name", describe(pair.Key()))
			continue
		}
		first := slices.IndexFunc(entries, func(e entry) bool { return e.key == key })
		if first >= 0 {
			d.problems.add(d.at(pair.Key()), join(path, key), "key %q is there twice%s: it was set on line %d already; remove one",
				key, inBlock(path), d.at(entries[first].node).line)
			continue
		}
		entries = append(entries, entry{key: key, node: pair.Key(), value: pair.Value()})
	}
	return entries
}

// unknown reports a key that the block does not have. The value is not quoted:
// the key may be a misspelt password.
func (d *decoder) unknown(entry entry, fields []field, path string) {
	known := make([]string, len(fields))
	for i, f := range fields {
		known[i] = f.key
	}
	meant, advice := entry.key, "expected one of "+strings.Join(known, ", ")
	if near := nearest(entry.key, known); near != "" {
		meant, advice = near, fmt.Sprintf("did you mean %q?", near)
	} else if moved := elsewhere(entry.key); moved != "" {
		advice = "did you mean " + moved + "?"
	}
	d.problems.add(d.at(entry.node), join(path, meant), "unknown key %q%s: %s", entry.key, inBlock(path), advice)
}

// elsewhere names the settings of other blocks that have this key, if they are few.
func elsewhere(key string) string {
	var paths []string
	for _, setting := range Settings() {
		if strings.HasSuffix(setting.Path, "."+key) {
			paths = append(paths, setting.Path)
		}
	}
	if len(paths) == 0 || len(paths) > 3 {
		return ""
	}
	return strings.Join(paths, " or ")
}

func inBlock(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}
