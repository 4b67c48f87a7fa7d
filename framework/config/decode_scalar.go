package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// found is a scalar as it was found.
type found struct {
	text   string // with references replaced
	source string // the text with its references, when there were any
	empty  string // see expanded
}

// scalar reads one value, strictly: text needs no quotes where it cannot be
// taken for anything else, numbers must not have any.
func (d *decoder) scalar(f field, node ast.Node, target reflect.Value, path string, place origin) {
	text, literal := textOf(node)
	if !literal {
		d.problems.add(place, path, "%s: found %s, expected %s", path, describe(node), f.expected())
		return
	}
	value, err := d.expand(text)
	was := found{text: value.text, empty: value.empty}
	if value.used {
		was.source = text
	}
	switch target.Interface().(type) {
	case Duration, Size: // "30s" and 30s are the same
	case bool, int, float64:
		if !isPlain(node) && !value.used && err == nil && set(reflect.New(f.Type).Elem(), value.text) == nil {
			d.problems.add(place, path, "%s: found %s in quotes, expected %s: remove the quotes", path, was.say(f), f.expected())
			return
		}
	default:
		if !isString(node) {
			advice := ""
			if f.enum() == nil {
				advice = ": put it in quotes"
			}
			d.problems.add(place, path, "%s: found %s, expected %s%s", path, describe(node), f.expected(), advice)
			return
		}
	}
	d.store(target, f, was, err, path, place)
}

// store converts what was found to the field's type.
func (d *decoder) store(target reflect.Value, f field, was found, err error, path string, place origin) {
	if err != nil {
		d.problems.add(place, path, "%s: %s", path, oneLine(err))
		return
	}
	err = set(target, was.text)
	if err == nil {
		delete(d.config.empty, path) // what the file had, when this is a variable
		if was.text == "" && was.empty != "" {
			d.config.empty[path] = was.empty
		}
		return
	}
	advice := ""
	switch {
	case matches(`^[0-9]+$`, was.text) && f.Type == reflect.TypeFor[Duration]():
		advice = fmt.Sprintf(": add a unit, such as %ss", was.text)
	case !errors.Is(err, errNotOfType) && f.Type == reflect.TypeFor[Size]():
		advice = ": units are B, KiB, MiB, GiB and TiB"
	}
	d.problems.add(place, path, "%s: found %s, expected %s%s", path, was.say(f), f.expected(), advice)
}

// say quotes what was found, unless that is a secret.
func (w found) say(f field) string {
	switch {
	case f.secret():
		return "a value"
	case w.source != "":
		return fmt.Sprintf("%s from %s", quote(w.text), quote(w.source))
	default:
		return quote(w.text)
	}
}

// quote quotes a value, or the beginning of a long one. A URL may be where it does not
// belong, and hold a password: before an @, or behind a ?.
func quote(text string) string {
	const longest = 60
	if strings.Contains(text, "@") {
		return "something with an @ (it may be a password, and is not shown)"
	}
	if address, _, some := strings.Cut(text, "?"); some && urlForm.MatchString(text) {
		text = address + "?…"
	}
	if utf8.RuneCountInString(text) > longest {
		text = string([]rune(text)[:longest]) + "…"
	}
	return fmt.Sprintf("%q", text)
}

// textOf returns the text of a scalar as written, before YAML gives it a type:
// the types are ours to decide.
func textOf(node ast.Node) (text string, ok bool) {
	switch node := node.(type) {
	case *ast.StringNode:
		return node.Value, true
	case *ast.LiteralNode:
		return node.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return node.GetToken().Value, true
	default:
		return "", false
	}
}

func isString(node ast.Node) bool {
	return node.Type() == ast.StringType || node.Type() == ast.LiteralType
}

func isPlain(node ast.Node) bool {
	kind := node.GetToken().Type
	return kind != token.SingleQuoteType && kind != token.DoubleQuoteType && node.Type() != ast.LiteralType
}

// describe names the kind of a node, never what it holds.
func describe(node ast.Node) string {
	switch node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case *ast.BoolNode:
		return "true or false"
	case *ast.IntegerNode, *ast.FloatNode:
		return "a number"
	case *ast.InfinityNode:
		return "infinity"
	case *ast.NanNode:
		return "NaN"
	case *ast.StringNode, *ast.LiteralNode:
		return "a string"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode, *ast.TagNode:
		return "a YAML anchor, alias or tag (write the value out)"
	default:
		return "something else"
	}
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
