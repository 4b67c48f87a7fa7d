// Command check reads Prometheus alert rules as promtool check rules does, with the
// same package, and prints the metrics that their expressions, and those on standard
// input, one a line, ask for. It is a module of its own: Hapax does not depend on
// Prometheus' server.
//
//	go run . alerts.yaml < expressions
package main

import (
	"bufio"
	"fmt"
	"os"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	var problems []error
	var expressions []string
	for _, file := range os.Args[1:] {
		groups, errs := rulefmt.ParseFile(file, false, model.UTF8Validation)
		problems = append(problems, errs...)
		if groups == nil {
			continue
		}
		for _, group := range groups.Groups {
			for _, rule := range group.Rules {
				expressions = append(expressions, rule.Expr)
			}
		}
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		expressions = append(expressions, lines.Text())
	}
	var names []string
	for _, expression := range expressions {
		found, err := metrics(expression)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", expression, err))
		}
		names = append(names, found...)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		fmt.Println(name)
	}
	for _, problem := range problems {
		fmt.Fprintln(os.Stderr, problem)
	}
	if len(problems) > 0 || lines.Err() != nil {
		os.Exit(1)
	}
}

// metrics are the names that an expression asks for.
func metrics(expression string) (names []string, err error) {
	parsed, err := parser.ParseExpr(expression)
	if err != nil {
		return nil, err
	}
	for _, selectors := range parser.ExtractSelectors(parsed) {
		for _, matcher := range selectors {
			if matcher.Name == labels.MetricName {
				names = append(names, matcher.Value)
			}
		}
	}
	return names, nil
}
