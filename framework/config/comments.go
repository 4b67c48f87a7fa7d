package config

import (
	"embed"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"sync"
)

// The comments on the struct fields are the documentation of hapax.yaml too: of
// the schema and of the example. They are read from the sources themselves,
// because a copy would drift.
//
//go:embed config.go handlers.go dedup.go sql.go sqlite.go kafka.go rabbitmq.go redis.go sqs.go tls.go tracing.go
var sources embed.FS

// comments maps "Type.Field" to the field's comment, paragraphs joined.
var comments = sync.OnceValue(func() map[string]string {
	found := map[string]string{}
	entries, _ := sources.ReadDir(".")
	for _, entry := range entries {
		source, _ := sources.ReadFile(entry.Name())
		file, err := parser.ParseFile(token.NewFileSet(), entry.Name(), source, parser.ParseComments)
		if err != nil {
			continue // cannot happen: the compiler has read the same file
		}
		ast.Inspect(file, func(node ast.Node) bool {
			spec, ok := node.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if block, ok := spec.Type.(*ast.StructType); ok {
				for _, field := range block.Fields.List {
					for _, name := range field.Names {
						found[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
					}
				}
			}
			return false
		})
	}
	return found
})
