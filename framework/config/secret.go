package config

import (
	"fmt"
	"io"
	"log/slog"
)

// mask stands for a secret wherever it is printed.
const mask = "***"

// Secret is a string that never prints: fmt with any verb, slog, JSON and YAML
// show *** (and nothing for an empty one). Only Reveal returns it.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns ***, or "" when there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// Format masks the secret under every verb; without it %x would print it.
func (s Secret) Format(state fmt.State, verb rune) { formatMasked(state, verb, s.String()) }

// LogValue masks the secret in slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText masks the secret in JSON, YAML and every other text form.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func formatMasked(state fmt.State, verb rune, masked string) {
	if verb == 'q' || verb == 'v' && state.Flag('#') {
		masked = fmt.Sprintf("%q", masked)
	}
	_, _ = io.WriteString(state, masked)
}
