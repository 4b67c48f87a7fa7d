package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// Problem is one thing that is wrong with a configuration. Parse reports all of
// them at once, joined; errors.As finds the first.
type Problem struct {
	// Where is "file:line:column", or the environment variable's name.
	Where string
	// Path of the setting or block: "kafka.brokers"; for a misspelt key, of the
	// one that was likely meant. Empty when it is the file as a whole.
	Path string
	// Message says what was found, what was expected and what to do. It never
	// holds a secret, nor a line of the file, which might.
	Message string

	origin origin
}

// Error returns where and what, on one line.
func (p *Problem) Error() string {
	if p.Where == "" { // made in code
		return p.Message
	}
	return p.Where + ": " + p.Message
}

// origin is where a value was set: a place in the file, or a variable.
type origin struct {
	file         string
	line, column int
	variable     string
}

func (o origin) String() string {
	switch {
	case o.variable != "" && o.line > 0:
		return fmt.Sprintf("%s:%d:%d", o.variable, o.line, o.column)
	case o.variable != "":
		return o.variable
	case o.line > 0:
		return fmt.Sprintf("%s:%d:%d", o.file, o.line, o.column)
	default:
		return o.file
	}
}

// problems gathers what is wrong.
type problems []*Problem

func (p *problems) add(at origin, path, format string, args ...any) {
	*p = append(*p, &Problem{Where: at.String(), Path: path, Message: fmt.Sprintf(format, args...), origin: at})
}

// concern reports whether a path, what is in it, or what it is in already has a
// problem: then what else looks wrong about it is likely a consequence.
func (p problems) concern(path string) bool {
	return slices.ContainsFunc(p, func(known *Problem) bool {
		return known.Path != "" && (within(path, known.Path) || within(known.Path, path))
	})
}

func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// err joins the problems: the file's by line, then the variables' by name.
func (p problems) err() error {
	slices.SortStableFunc(p, func(a, b *Problem) int {
		return cmp.Or(
			cmp.Compare(a.origin.variable, b.origin.variable),
			cmp.Compare(a.origin.line, b.origin.line),
			cmp.Compare(a.origin.column, b.origin.column),
		)
	})
	joined := make([]error, len(p))
	for i, problem := range p {
		joined[i] = problem
	}
	return errors.Join(joined...)
}

// nearest returns the known name that was most likely meant; "" when none is
// near enough.
func nearest(name string, known []string) string {
	best, distance := "", max(2, len(name)/4)+1
	for _, candidate := range known {
		if strings.EqualFold(candidate, name) {
			return candidate
		}
		if d := levenshtein.ComputeDistance(strings.ToLower(name), strings.ToLower(candidate)); d < distance && d < len(candidate) {
			best, distance = candidate, d
		}
	}
	return best
}
