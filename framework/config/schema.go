package config

import (
	"encoding/json"
	"reflect"

	"github.com/invopop/jsonschema"
)

// Schema returns the JSON Schema (draft 2020-12) of hapax.yaml, for editors. It
// accepts ${NAME} wherever Parse does. A file that Parse accepts without
// variables passes it; settings that contradict each other only Parse finds.
func Schema() []byte {
	schema := blockSchema(reflect.ValueOf(Default()).Elem())
	schema.Version = jsonschema.Version
	schema.Title = "hapax.yaml"
	schema.Description = "Configuration of a Hapax service."
	schema.Extras, schema.Type = nil, "object"
	out, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return nil // cannot happen: a schema is made of strings, numbers and maps
	}
	return append(out, '\n')
}

func blockSchema(value reflect.Value) *jsonschema.Schema {
	schema := &jsonschema.Schema{
		Properties:           jsonschema.NewProperties(),
		AdditionalProperties: jsonschema.FalseSchema,
		// A key with nothing below it is an empty block.
		Extras: map[string]any{"type": []string{"object", "null"}},
	}
	for _, f := range fieldsOf(value.Type()) {
		property := f.schema(value.FieldByIndex(f.Index))
		property.Description = f.doc()
		schema.Properties.Set(f.key, property)
		if f.required() && value.FieldByIndex(f.Index).IsZero() {
			schema.Required = append(schema.Required, f.key)
		}
	}
	return schema
}

func (f field) schema(value reflect.Value) *jsonschema.Schema {
	switch f.shape() {
	case block:
		return blockSchema(value)
	case mapping:
		return &jsonschema.Schema{
			AdditionalProperties: blockSchema(exampleElement(f)),
			Extras:               map[string]any{"type": []string{"object", "null"}},
		}
	case list:
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
			{Type: "array", Items: &jsonschema.Schema{Type: "string"}},
			referenceSchema(),
		}}
	}
	own := f.scalarSchema()
	schema := &jsonschema.Schema{AnyOf: append(own, referenceSchema())}
	if f.Type == reflect.TypeFor[string]() && f.enum() == nil && f.Tag.Get("pattern") == "" || f.secret() {
		schema = own[0]
	}
	if !value.IsZero() || !f.secret() && f.example() == "" {
		schema.Default = value.Interface()
	}
	if example := f.example(); example != "" && f.enum() == nil {
		schema.Examples = []any{example}
	}
	return schema
}

// scalarSchema is what a value may be when it is written out.
func (f field) scalarSchema() []*jsonschema.Schema {
	if values := f.enum(); values != nil {
		list := make([]any, len(values))
		for i, value := range values {
			list[i] = value
		}
		return []*jsonschema.Schema{{Enum: list}}
	}
	switch f.Type {
	case reflect.TypeFor[Duration]():
		return []*jsonschema.Schema{{Type: "string", Pattern: durationPattern}, {Enum: []any{0}}}
	case reflect.TypeFor[Size]():
		return []*jsonschema.Schema{{Type: "string", Pattern: sizePattern}, {Type: "integer", Minimum: "0"}}
	case reflect.TypeFor[bool]():
		return []*jsonschema.Schema{{Type: "boolean"}}
	case reflect.TypeFor[int]():
		return []*jsonschema.Schema{{Type: "integer", Minimum: f.limit("min"), Maximum: f.limit("max")}}
	case reflect.TypeFor[float64]():
		return []*jsonschema.Schema{{Type: "number", Minimum: f.limit("min"), Maximum: f.limit("max")}}
	}
	return []*jsonschema.Schema{{Type: "string", Pattern: f.Tag.Get("pattern")}}
}

func (f field) limit(tag string) json.Number { return json.Number(f.Tag.Get(tag)) }

func referenceSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: reference}
}
