package config

import (
	"errors"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// syntaxProblem is why a text is not YAML.
type syntaxProblem struct {
	line, column int
	message      string
}

// parse returns the only document of a text; nil when there is nothing in it.
// The parser is told to let duplicate keys pass, because it would stop at the
// first; entries finds them all.
func parse(text string) (root ast.Node, problem *syntaxProblem) {
	// A text that crashes the YAML parser is a broken file, not a broken service.
	defer func() {
		if recovered := recover(); recovered != nil {
			root, problem = nil, &syntaxProblem{message: "not YAML: the parser gave up on it"}
		}
	}()
	text = strings.TrimPrefix(text, "\ufeff")
	for i, r := range text {
		if r == utf8.RuneError && !strings.HasPrefix(text[i:], "\ufffd") {
			return nil, &syntaxProblem{strings.Count(text[:i], "\n") + 1, 1, "not UTF-8: save the file as UTF-8"}
		}
	}
	file, err := parser.ParseBytes([]byte(text), 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, explain(err, text)
	}
	for _, document := range file.Docs {
		switch {
		case document.Body == nil || document.Body.Type() == ast.CommentType:
		case root != nil:
			at := document.Body.GetToken().Position
			return nil, &syntaxProblem{at.Line, 1, "found a second YAML document, expected one: remove the --- before it"}
		default:
			root = document.Body
		}
	}
	return root, nil
}

// The parser quotes from the file in some messages ("invalid header option:
// "|secret"").
var quotedText = regexp.MustCompile(`:? "(?:[^"\\]|\\.){2,}"`)

func explain(err error, text string) *syntaxProblem {
	var syntax yaml.Error
	if !errors.As(err, &syntax) || syntax.GetToken() == nil {
		return &syntaxProblem{message: "not YAML"}
	}
	at := syntax.GetToken().Position
	message := "not YAML: " + quotedText.ReplaceAllString(syntax.GetMessage(), "")
	lines := strings.Split(text, "\n")
	if at.Line >= 1 && at.Line <= len(lines) {
		line := lines[at.Line-1]
		switch {
		case strings.Contains(message, "must be specified") && strings.Contains(line, "${"):
			message += ": inside { } and [ ], put quotes around ${…}"
		case strings.HasPrefix(strings.TrimLeft(line, " "), "\t"):
			message += ": indent with spaces"
		}
	}
	return &syntaxProblem{at.Line, at.Column, message}
}
