package main

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Help on a command that there is not is no help.
func TestHelpOnAnUnknownCommand(t *testing.T) {
	for line, says := range map[string]string{
		"help nosuch":       `unknown command "nosuch" for "hapax"`,
		"help dlq nosuch":   `unknown command "nosuch" for "hapax dlq": expected one of list, purge, requeue, show`,
		"help config chekc": `unknown command "chekc" for "hapax config": did you mean "check"?`,
		"help rules nosuch": `unknown command "nosuch" for "hapax rules"`,
	} {
		text, err := run(t, strings.Fields(line)...)
		require.EqualError(t, err, says, line)
		require.Empty(t, text, line)
	}
	for _, line := range []string{"help", "help dlq", "help dlq list", "help help", "dlq list --help"} {
		text, err := run(t, strings.Fields(line)...)
		require.NoError(t, err, line)
		require.Contains(t, text, "Usage:", line)
	}
}

// Help that could not be written is no success either.
func TestHelpThatCannotBeWritten(t *testing.T) {
	full := errors.New("no space left on device")
	for _, line := range []string{"", "--help", "help", "help dlq", "dlq", "dlq list --help", "completion"} {
		err := runTo(t, strings.NewReader(""), writerFunc(func([]byte) (int, error) { return 0, full }), io.Discard, strings.Fields(line)...)
		require.ErrorIs(t, err, full, line)
	}
}

// Nor is a version; main prints the error, and cobra is not to print it too.
func TestVersionThatCannotBeWritten(t *testing.T) {
	full := errors.New("no space left on device")
	var written []string
	err := runTo(t, strings.NewReader(""), writerFunc(func(text []byte) (int, error) {
		written = append(written, string(text))
		return 0, full
	}), io.Discard, "--version")
	require.ErrorIs(t, err, full)
	require.Equal(t, []string{"hapax version " + version() + "\n"}, written)
}
