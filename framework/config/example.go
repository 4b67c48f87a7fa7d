package config

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
)

// Example returns a hapax.yaml with every setting and its documentation. The
// service and the broker are set; everything else is commented out, at its
// default or with an example: "#key: value" is a setting, "# text" is not.
func Example() []byte {
	var out bytes.Buffer
	out.WriteString("# Every setting of a Hapax service. A line that begins with #key: shows the default,\n" +
		"# or an example where there is none. ${NAME} and ${NAME:-default} stand for an environment\n" +
		"# variable, $${ for a plain ${. HAPAX_ and a path in capitals overrides a setting:\n" +
		"# HAPAX_KAFKA_BROKERS=a:9092,b:9092\n")
	exampleBlock(&out, reflect.ValueOf(Default()).Elem(), 0, "")
	return out.Bytes()
}

func exampleBlock(out *bytes.Buffer, value reflect.Value, depth int, comment string) {
	indent := strings.Repeat("  ", depth)
	for _, f := range fieldsOf(value.Type()) {
		if depth == 0 {
			out.WriteString("\n")
		}
		for _, line := range wrap(f.doc(), 92-len(indent)) {
			fmt.Fprintf(out, "%s# %s\n", indent, line)
		}
		mark := "#"
		if f.key == "service" || f.key == "broker" {
			mark = ""
		}
		child := value.FieldByIndex(f.Index)
		switch f.shape() {
		case block:
			fmt.Fprintf(out, "%s%s%s:\n", indent, mark, f.key)
			exampleBlock(out, child, depth+1, mark)
		case mapping:
			fmt.Fprintf(out, "%s%s%s:\n%s  %s%s:\n", indent, mark, f.key, indent, mark, f.example())
			exampleBlock(out, exampleElement(f), depth+2, mark)
		default:
			fmt.Fprintf(out, "%s%s%s: %s\n", indent, mark, f.key, exampleValue(f, child))
		}
	}
}

// exampleElement is a map's element as it is before it is changed.
func exampleElement(f field) reflect.Value {
	if f.Type.Elem() == reflect.TypeFor[Handler]() {
		return reflect.ValueOf(Default().inherited())
	}
	return reflect.Zero(f.Type.Elem())
}

// exampleValue is the default, or an example where there is none.
func exampleValue(f field, value reflect.Value) string {
	switch {
	case !value.IsZero() || f.example() == "":
		return yamlValue(value)
	case f.shape() == list:
		return "[" + yamlQuote(f.example()) + "]"
	case f.Type == reflect.TypeFor[Duration]():
		return f.example()
	default:
		// Not escaped: an example may show a reference.
		return yamlString(f.example())
	}
}

func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
