package config

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"net"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// errNotOfType: a text is not of the field's type; expected says what is.
var errNotOfType = errors.New("not of the expected type")

// set converts text to the field's type and stores it. An error that wraps
// errNotOfType adds nothing to expected; any other says more.
func set(target reflect.Value, text string) error {
	if unmarshaler, ok := target.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return unmarshaler.UnmarshalText([]byte(text))
	}
	switch target.Kind() {
	case reflect.String:
		target.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return errNotOfType
		}
		target.SetBool(text == "true")
	case reflect.Int:
		// 010 is eight to some readers of YAML and ten to others.
		number, err := strconv.ParseInt(text, 10, strconv.IntSize)
		if err != nil || !matches(`^-?(0|[1-9][0-9]*)$`, text) {
			return errNotOfType
		}
		target.SetInt(number)
	case reflect.Float64:
		number, err := strconv.ParseFloat(text, 64)
		if err != nil || !matches(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`, text) {
			return errNotOfType
		}
		target.SetFloat(number)
	case reflect.Slice:
		var items []string
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
		target.Set(reflect.ValueOf(items))
	}
	return nil
}

// format is the inverse of set; secrets come out masked.
func format(value reflect.Value) string {
	switch value := value.Interface().(type) {
	case []string:
		return strings.Join(value, ",")
	case float64:
		return strconv.FormatFloat(value, 'g', -1, 64)
	case fmt.Stringer:
		return value.String()
	default:
		if reflect.ValueOf(value).Kind() == reflect.Map {
			return ""
		}
		return fmt.Sprint(value)
	}
}

// expected says in words what a field takes.
func (f field) expected() string {
	if values := f.enum(); values != nil {
		return "one of " + quoted(values)
	}
	switch f.Type {
	case reflect.TypeFor[Duration]():
		return "a duration such as 30s, 1h30m or 7d"
	case reflect.TypeFor[Size]():
		return "a size such as 16MiB"
	case reflect.TypeFor[bool]():
		return "true or false"
	case reflect.TypeFor[int]():
		return "a whole number"
	case reflect.TypeFor[float64]():
		return "a number"
	}
	switch {
	case f.shape() == list && f.isHostPort():
		return fmt.Sprintf("a list of host:port such as [%q]", f.example())
	case f.shape() == list:
		return fmt.Sprintf("a list such as [%q]", f.example())
	case f.shape() == mapping || f.shape() == block:
		return "keys"
	case f.isHostPort():
		return "host:port such as 127.0.0.1:8086"
	default:
		return "a string"
	}
}

// violation says how a value of the right type breaks the field's own rule; ""
// when it keeps it.
func (f field) violation(value reflect.Value) string {
	text := format(value)
	if values := f.enum(); values != nil && !slices.Contains(values, text) {
		return f.expected()
	}
	if pattern := f.Tag.Get("pattern"); pattern != "" && !(text == "" && f.required()) && !matches(pattern, text) {
		return fmt.Sprintf("a string that matches %s", pattern)
	}
	if f.isHostPort() {
		items := []string{text}
		if f.shape() == list {
			items = value.Interface().([]string)
		}
		for _, item := range items {
			_, port, err := net.SplitHostPort(item)
			if _, number := strconv.ParseUint(port, 10, 16); err != nil || number != nil || strings.Contains(item, "@") {
				return f.expected()
			}
		}
	}
	if low, ok := f.bound("min"); ok && compare(value, low) < 0 {
		return "at least " + format(low)
	}
	if high, ok := f.bound("max"); ok && compare(value, high) > 0 {
		return "at most " + format(high)
	}
	return ""
}

// bound reads a limit from the tag, in the field's own type.
func (f field) bound(tag string) (reflect.Value, bool) {
	text, ok := f.Tag.Lookup(tag)
	limit := reflect.New(f.Type).Elem()
	return limit, ok && set(limit, text) == nil
}

func compare(a, b reflect.Value) int {
	if a.Kind() == reflect.Float64 {
		return cmp.Compare(a.Float(), b.Float())
	}
	return cmp.Compare(a.Int(), b.Int())
}

func matches(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }

func quoted(values []string) string {
	quotes := make([]string, len(values))
	for i, value := range values {
		quotes[i] = strconv.Quote(value)
	}
	return strings.Join(quotes, ", ")
}
