package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/hapax-go/hapax/dedup"
)

// Validate reports everything that is wrong with a configuration made in code,
// as Parse does for a file.
func (c *Config) Validate() error {
	var found problems
	c.validate(&found)
	return found.err()
}

// checker reports problems where the settings concerned were set.
type checker struct {
	config *Config
	found  *problems
	known  problems // what was wrong before
}

// that reports a problem with a path unless ok. The place is that of the path,
// or else of the first of the others that was set, or of the nearest block.
func (v checker) that(ok bool, path string, others []string, format string, args ...any) {
	if ok || v.known.concern(path) || slices.ContainsFunc(others, v.known.concern) {
		return
	}
	v.found.add(v.place(append([]string{path}, others...)), path, "%s: %s", path, fmt.Sprintf(format, args...))
}

// chosen reports whether a path was set: "off" that was written down is a choice,
// even when what it turns off is there too.
func (v checker) chosen(path string) bool {
	_, ok := v.config.origins[path]
	return ok
}

// needed is that for a setting that others need. One that is there, with a variable
// that is empty, is not said to be missing.
func (v checker) needed(set bool, path string, others []string, why, advice string) {
	what := "not set"
	if empty := v.config.empty[path]; empty != "" {
		what, advice = "variable "+empty+" is empty", ": set it"
	}
	v.that(set, path, others, "%s, but %s%s", what, why, advice)
}

// meantEmpty reports a setting that a variable left empty, where "" has a meaning that
// nothing would tell of later: "" must be written down, or be the reference's default.
func (v checker) meantEmpty(path, meaning string) {
	empty := v.config.empty[path]
	v.that(empty == "", path, nil, "variable %[1]s is empty, expected a connection string: set it, or write ${%[1]s:-} for %[2]s", empty, meaning)
}

func (v checker) place(paths []string) origin {
	for _, path := range paths {
		if at, ok := v.config.origins[path]; ok {
			return at
		}
	}
	for path := paths[0]; strings.Contains(path, "."); {
		path = path[:strings.LastIndex(path, ".")]
		if at, ok := v.config.origins[path]; ok {
			return at
		}
	}
	return origin{file: v.config.file}
}

// validate checks every setting by its own rule, then the settings that depend
// on each other. What already has a problem is left alone.
func (c *Config) validate(found *problems) {
	v := checker{config: c, found: found, known: slices.Clone(*found)}

	v.each(reflect.ValueOf(c).Elem(), "")
	v.meantEmpty("sql.dsn", "no database")
	v.meantEmpty("dedup.ledger.dsn", "a ledger in the sql block's database, the redis block or sqlite.path")
	v.known = slices.Clone(*found)

	v.broker()
	v.delivery("", c.Consumer, c.Retry)
	v.strategy("dedup", c.Dedup.Strategy, c.Dedup.Claim)
	for name, handler := range sorted(c.Handlers) {
		path := "handlers" + bracket(name)
		if handler.Consumer != c.Consumer || handler.Retry != c.Retry {
			v.delivery(path, handler.Consumer, handler.Retry)
		}
		if handler.Strategy != c.Dedup.Strategy || handler.Claim != c.Dedup.Claim {
			v.strategy(path, handler.Strategy, handler.Claim)
		}
	}
	v.topics()
	v.databases()
	v.allow()
}

// each checks every setting against its tags. What a handler inherits is checked
// once, where it comes from.
func (v checker) each(target reflect.Value, prefix string) {
	inherited := map[string]any{}
	if target.Type() == reflect.TypeFor[Handler]() {
		walk(reflect.ValueOf(v.config.inherited()), prefix, func(_ field, path string, value reflect.Value) {
			inherited[path] = value.Interface()
		})
	}
	walk(target, prefix, func(f field, path string, value reflect.Value) {
		if f.shape() == mapping {
			for _, key := range sortedKeys(value) {
				v.each(value.MapIndex(reflect.ValueOf(key)), path+bracket(key))
			}
			return
		}
		if len(inherited) > 0 && inherited[path] == value.Interface() {
			return
		}
		if f.required() && value.IsZero() {
			v.that(false, path, nil, "not set, expected a value: add %q or set %s", f.key+": "+f.example(), variable(path))
			return
		}
		if expected := f.violation(value); expected != "" {
			v.that(false, path, nil, "found %s, expected %s%s", quote(format(value)), expected, v.meant(f, value))
		}
	})
}

func (v checker) meant(f field, value reflect.Value) string {
	if near := nearest(format(value), f.enum()); near != "" {
		return fmt.Sprintf(": did you mean %q?", near)
	}
	return ""
}

// strategy checks that the rules table has what was asked for.
func (v checker) strategy(path, strategy, claim string) {
	c := v.config
	others := []string{"dedup.strategy", "broker", "sql.dsn"}
	if strategy == dedup.StrategyNone {
		return
	}
	rule, err := dedup.RuleFor(c.Broker, c.SQL.Enabled())
	if err != nil {
		return // the broker is wrong, and reported
	}
	if strategy != "auto" && strategy != rule.Strategy {
		i := slices.IndexFunc(dedup.Rules, func(r dedup.Rule) bool {
			// A strategy that keeps its marks in a ledger works on any broker;
			// the others are part of one broker's own commit.
			return r.Strategy == strategy && (r.Ledger || r.Broker == c.Broker)
		})
		if i < 0 {
			advice := fmt.Sprintf("use auto, which is %s here", rule.Strategy)
			if strategy == dedup.StrategyInbox {
				advice = "set sql.dsn, or use auto"
			}
			v.that(false, join(path, "strategy"), others, "found %q, which broker %s does not have: %s", strategy, c.Broker, advice)
			return
		}
		rule = dedup.Rules[i]
	}
	v.that(claim == "" || slices.Contains(rule.Claims, dedup.ClaimKind(claim)), join(path, "claim"), append([]string{"dedup.claim"}, others...),
		"found %q, but strategy %s supports only %s", claim, rule.Strategy, joinKinds(rule.Claims))
}

func joinKinds(kinds []dedup.ClaimKind) string {
	names := make([]string, len(kinds))
	for i, kind := range kinds {
		names[i] = string(kind)
	}
	return strings.Join(names, " and ")
}
