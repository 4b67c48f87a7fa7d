package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/charmbracelet/huh"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/cmd/hapax/internal/scaffold"
)

func TestNew(t *testing.T) {
	checkout, err := filepath.Abs("../..")
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	text, err := run(t, "new", "shop", "--broker", "kafka")
	require.NoError(t, err)
	tidy := exec.CommandContext(t.Context(), "go", "mod", "tidy", "-diff")
	tidy.Dir, tidy.Env = "shop", append(os.Environ(), "GOPROXY=off")
	diff, err := tidy.CombinedOutput()
	steps := "  make test\n  make up\n  make run\n"
	if strings.Contains(string(diff), "module lookup disabled by GOPROXY=off") {
		steps = "  go mod tidy\n" + steps // on a new machine: tidying looks at more than building does
	} else {
		require.NoError(t, err, string(diff))
	}
	require.Equal(t, "shop: service shop on kafka, 23 files\ngo.mod takes the framework from "+checkout+"\n\n  cd shop\n"+steps, text)
	settings, err := os.ReadFile("shop/hapax.yaml")
	require.NoError(t, err)
	require.Contains(t, string(settings), "\nbroker: kafka\n")

	_, err = run(t, "new", "shop")
	require.EqualError(t, err, "write service: folder shop is not empty (it has .dockerignore): choose another with --dir, or pass --force to overwrite the files that a service has")
	text, err = run(t, "new", "shop", "--force", "--sql", "postgres", "--module", "example.org/shop", "--json", "--replace", checkout)
	require.NoError(t, err)
	var made service
	require.NoError(t, json.Unmarshal([]byte(text), &made))
	require.Equal(t, "sqlite", made.Broker)
	require.Equal(t, "example.org/shop", made.Module)
	require.Equal(t, checkout, made.Framework)
	require.Contains(t, made.Files, "schema/schema.sql")
	for _, file := range made.Files {
		require.FileExists(t, filepath.Join("shop", file))
	}

	for want, arguments := range map[string][]string{
		"new: the service's name is missing: hapax new NAME":                            {"new"},
		`new: broker is "pigeon", expected one of`:                                      {"new", "other", "--broker", "pigeon"},
		`new: name is "Other", expected small letters`:                                  {"new", "Other"},
		"find framework: --replace nowhere: expected a checkout of github.com/hapax-go": {"new", "other", "--replace", "nowhere"},
	} {
		_, err := run(t, arguments...)
		require.ErrorContains(t, err, want)
		require.NoDirExists(t, "other")
	}
}

// Go builds nothing below a workspace that is no part of it, and does not say what to do.
func TestNewInAWorkspace(t *testing.T) {
	t.Setenv("GOWORK", "")
	checkout, err := filepath.Abs("../..")
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("go.mod", []byte("module example.com/all\n\ngo 1.26\n"), 0o600))
	require.NoError(t, os.WriteFile("go.work", []byte("go 1.26\n\nuse .\n"), 0o600))
	text, err := run(t, "new", "shop", "--replace", checkout)
	require.NoError(t, err)
	require.Contains(t, text, "\n  cd shop\n  go work use .\n")
	use := exec.CommandContext(t.Context(), "go", "work", "use", ".")
	use.Dir = "shop"
	output, err := use.CombinedOutput()
	require.NoError(t, err, string(output))
	text, err = run(t, "new", "shop", "--replace", checkout, "--force")
	require.NoError(t, err)
	require.NotContains(t, text, "go work")
}

// What flags say is not asked; the rest is, here in plain lines. A name that will not
// do is asked for again. (Every question reads on by itself, hence byte by byte.)
func TestNewAsks(t *testing.T) {
	o := scaffold.Options{SQL: "none"}
	form := huh.NewForm(huh.NewGroup(questions(&o)...)).WithAccessible(true).
		WithInput(iotest.OneByteReader(strings.NewReader("Shop\nshop\n\n2\n"))).WithOutput(&bytes.Buffer{})
	require.NoError(t, form.Run())
	require.Equal(t, scaffold.Options{Name: "shop", Broker: "kafka", SQL: "none"}, o)

	require.Empty(t, questions(&scaffold.Options{Name: "shop", Module: "example.com/shop", Broker: "sqlite", SQL: "none"}))
}

// A group of commands refuses words that are none of them.
func TestUnknownCommands(t *testing.T) {
	_, err := run(t, "config", "chekc")
	require.EqualError(t, err, `unknown command "chekc" for "hapax config": did you mean "check"?`)
	_, err = run(t, "config", "frobnicate")
	require.EqualError(t, err, `unknown command "frobnicate" for "hapax config": expected one of check, example, schema, show`)
	text, err := run(t, "config")
	require.NoError(t, err)
	require.Contains(t, text, "Available Commands:")
	_, err = run(t, "frobnicate")
	require.ErrorContains(t, err, `unknown command "frobnicate" for "hapax"`)
}
