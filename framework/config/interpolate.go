package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// reference is ${NAME} or ${NAME:-default}. A default ends at the first }, so there is
// no reference in it: the } of that would end it, and its own be left over in the value.
const reference = `\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}`

var dollar = regexp.MustCompile(`\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?:(:-)([^}]*))?\}|\$\{`)

// expanded is a text with its references replaced.
type expanded struct {
	text string
	used bool // there were some
	// empty is the first variable that is set, but to nothing, and has no default: ""
	// where it means something is then nobody's choice.
	empty string
}

// interpolate replaces ${NAME} by the variable, ${NAME:-default} by the default
// when the variable is unset or empty, and $${ by ${. It works on a value that
// was parsed already, so what a variable holds is never read as YAML, nor looked
// into for references of its own.
func interpolate(text string, env map[string]string) (result expanded, err error) {
	var errs []error
	result.text = dollar.ReplaceAllStringFunc(text, func(match string) string {
		switch match {
		case "$${":
			return "${"
		case "${":
			errs = append(errs, errors.New("found ${ without a name and }, expected ${NAME} or ${NAME:-default}: write $${ for a plain ${"))
			return match
		}
		result.used = true
		parts := dollar.FindStringSubmatch(match)
		value, set := env[parts[1]]
		switch {
		case strings.Contains(parts[3], "${"):
			errs = append(errs, fmt.Errorf("found ${ in the default of ${%[1]s:-…}, expected plain text, because a default ends at the first }: write it out, or set %[1]s where the service is started", parts[1]))
		case parts[2] != "" && value == "":
			return parts[3]
		case !set:
			errs = append(errs, fmt.Errorf("variable %s is not set: set it, or write ${%s:-default}", parts[1], parts[1]))
		case value == "":
			result.empty = cmp.Or(result.empty, parts[1])
		}
		return value
	})
	return result, errors.Join(errs...)
}

// escape is the inverse of interpolate for a text that is meant literally.
func escape(text string) string { return strings.ReplaceAll(text, "${", "$${") }
