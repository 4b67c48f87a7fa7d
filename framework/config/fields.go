package config

import (
	"reflect"
	"slices"
	"strings"

	"github.com/hapax-go/hapax/dedup"
)

// field is one key of a block, read off the struct. Everything else in this
// package (decoding, variables, validation, schema, example, printing) walks
// fields, so that a new setting is one struct field and nothing more.
type field struct {
	reflect.StructField
	owner reflect.Type
	key   string
}

// shape says what a field holds.
type shape int

const (
	scalar  shape = iota
	list          // []string
	block         // a struct
	mapping       // a map of structs, by name
)

func fieldsOf(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		if key, ok := t.Field(i).Tag.Lookup("yaml"); ok {
			fields = append(fields, field{StructField: t.Field(i), owner: t, key: key})
		}
	}
	return fields
}

func (f field) shape() shape {
	switch f.Type.Kind() {
	case reflect.Slice:
		return list
	case reflect.Struct:
		return block
	case reflect.Map:
		return mapping
	default:
		return scalar
	}
}

func (f field) example() string  { return f.Tag.Get("example") }
func (f field) required() bool   { return f.Tag.Get("required") == "true" }
func (f field) isHostPort() bool { return f.Tag.Get("format") == "host:port" }

// doc is the field's comment, about the key instead of the Go name.
func (f field) doc() string {
	text := comments()[f.owner.Name()+"."+f.Name]
	if rest, ok := strings.CutPrefix(text, f.Name+" "); ok {
		return f.key + " " + rest
	}
	return text
}

func (f field) secret() bool {
	return f.Type == reflect.TypeFor[Secret]() || f.Type == reflect.TypeFor[DSN]()
}

// enum lists the allowed values; nil when there is no such list. $brokers and
// $strategies come from the rules table.
func (f field) enum() []string {
	tag, ok := f.Tag.Lookup("enum")
	if !ok {
		return nil
	}
	var values []string
	for value := range strings.SplitSeq(tag, "|") {
		switch value {
		case "$brokers":
			for _, rule := range dedup.Rules {
				values = append(values, rule.Broker)
			}
			slices.Sort(values)
			values = slices.Compact(values)
		case "$strategies":
			for _, rule := range dedup.Rules {
				values = append(values, rule.Strategy)
			}
			values = append(values, dedup.StrategyNone)
		default:
			values = append(values, value)
		}
	}
	return values
}

// Setting describes one setting of hapax.yaml.
type Setting struct {
	// Path is where it is in the file: "kafka.tls.enabled".
	Path string
	// Variable overrides it: HAPAX_KAFKA_TLS_ENABLED.
	Variable string
	// Type is what it holds: "a duration such as 30s".
	Type string
	// Default is the default in the file's own form; "" when there is none.
	Default string
	// Secret: its value is never printed.
	Secret bool
	// Doc says its effect, its special value and its default.
	Doc string
}

// Settings lists every setting, in the order of the structs. Its variables are
// all that Load accepts, beside Reserved.
func Settings() []Setting {
	var settings []Setting
	walk(reflect.ValueOf(Default()).Elem(), "", func(f field, path string, value reflect.Value) {
		settings = append(settings, Setting{
			Path:     path,
			Variable: variable(path),
			Type:     f.expected(),
			Default:  format(value),
			Secret:   f.secret(),
			Doc:      f.doc(),
		})
	})
	return settings
}

// walk visits every setting below a block, in order; a map is one setting.
func walk(within reflect.Value, prefix string, visit func(f field, path string, value reflect.Value)) {
	for _, f := range fieldsOf(within.Type()) {
		value, path := within.FieldByIndex(f.Index), join(prefix, f.key)
		if f.shape() == block {
			walk(value, path, visit)
		} else {
			visit(f, path, value)
		}
	}
}

func join(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "." + key
}

// variable names the environment variable that overrides a path.
func variable(path string) string {
	return "HAPAX_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}
