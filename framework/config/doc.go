// Package config reads hapax.yaml: the one file that changes when a service
// moves to another broker.
//
// The structs are the only source. A field's tags give its key, its allowed
// values and its limits; its comment is the documentation that the JSON Schema
// and the example file show; Default gives its default. Decoding, variables,
// validation, Schema, Example and Render walk the same fields, so a new setting
// is one struct field, one comment and, if it has one, one default.
//
// A setting gets its value in this order, the later winning:
//
//	Default ──► hapax.yaml, with ${NAME} replaced ──► HAPAX_… variables ──► handlers inherit ──► Validate
//
// Reading is strict. An unknown key, a key that is there twice, a value of the
// wrong type, an unset ${NAME}, one that is empty where that would switch something
// off, a HAPAX_ variable that is no setting: each is an error that says what was found, what was expected and what to do, and all of
// them are reported at once. ${NAME} is replaced after the YAML was parsed, in
// values only, so a variable can hold anything without changing the file's
// structure.
//
// Secrets do not print. Passwords are of type Secret, connection strings of type
// DSN; fmt, slog, JSON and YAML mask them, and errors quote neither their values
// nor lines of the file, where one might stand under a misspelt key.
//
// Whether this build contains the broker that a configuration asks for is not
// decided here: the package is pure data.
package config
