package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// Render writes the configuration as YAML, each setting that is not a default
// with where it was set. Passwords are masked. Blocks of brokers that are not in
// use are left out, unless they were set. Read back, it gives the same
// configuration, but for the passwords.
func (c *Config) Render(w io.Writer) error {
	r := renderer{config: c}
	for _, f := range fieldsOf(reflect.TypeFor[Config]()) {
		if f.isBroker() && f.key != c.Broker && !c.touched(f.key) {
			continue
		}
		r.field(f, reflect.ValueOf(c).Elem().FieldByIndex(f.Index), f.key, 0)
	}
	_, err := w.Write(r.out.Bytes())
	return err
}

// isBroker reports whether the field is a broker's block.
func (f field) isBroker() bool {
	broker, _ := reflect.TypeFor[Config]().FieldByName("Broker")
	return slices.Contains(field{StructField: broker}.enum(), f.key)
}

// touched reports whether anything in a block was set.
func (c *Config) touched(block string) bool {
	for path := range c.origins {
		if within(path, block) {
			return true
		}
	}
	return false
}

type renderer struct {
	config *Config
	out    bytes.Buffer
}

func (r *renderer) field(f field, value reflect.Value, path string, depth int) {
	switch f.shape() {
	case block:
		r.line(depth, f.key+":", path)
		r.block(value, path, depth+1)
	case mapping:
		if value.Len() == 0 {
			return
		}
		r.line(depth, f.key+":", path)
		for _, key := range sortedKeys(value) {
			path := path + bracket(key)
			r.line(depth+1, yamlString(key)+":", path)
			r.block(value.MapIndex(reflect.ValueOf(key)), path, depth+2)
		}
	default:
		r.line(depth, f.key+": "+yamlValue(value), path)
	}
}

func (r *renderer) block(value reflect.Value, path string, depth int) {
	for _, f := range fieldsOf(value.Type()) {
		r.field(f, value.FieldByIndex(f.Index), join(path, f.key), depth)
	}
}

func (r *renderer) line(depth int, text, path string) {
	fmt.Fprint(&r.out, strings.Repeat("  ", depth), text)
	if at, ok := r.config.origins[path]; ok && !strings.HasSuffix(text, ":") {
		fmt.Fprint(&r.out, "  # ", strings.ReplaceAll(at.String(), "\n", " "))
	}
	r.out.WriteByte('\n')
}

// yamlValue prints a list or a scalar; secrets are masked.
func yamlValue(value reflect.Value) string {
	if items, ok := value.Interface().([]string); ok {
		quotes := make([]string, len(items))
		for i, item := range items {
			quotes[i] = yamlQuote(escape(item))
		}
		return "[" + strings.Join(quotes, ", ") + "]"
	}
	text := format(value)
	if value.Kind() == reflect.String {
		return yamlString(escape(text))
	}
	return text
}

// yamlString leaves out the quotes where a text is a string without them.
func yamlString(text string) string {
	if matches(`^[A-Za-z_][A-Za-z0-9_./-]*$`, text) && !matches(`(?i)^(true|false|null|yes|no|on|off|y|n)$`, text) {
		return text
	}
	return yamlQuote(text)
}

// yamlQuote quotes as JSON does, which YAML reads.
func yamlQuote(text string) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // a string always encodes
	return strings.TrimSuffix(out.String(), "\n")
}
