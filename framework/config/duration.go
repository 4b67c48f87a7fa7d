package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that also reads days (d, 24 hours) and weeks (w),
// in front of the Go units: "7d", "1w12h", "1h30m", "250ms".
type Duration time.Duration

// Std returns the duration as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String returns the canonical form, which UnmarshalText reads back: whole days
// in days, anything else in Go's form without trailing zero units: "7d", "36h",
// "1h30m", "100ms", "0".
func (d Duration) String() string {
	const day = Duration(24 * time.Hour)
	switch {
	case d == 0:
		return "0"
	case d%day == 0:
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := time.Duration(d).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// MarshalText returns the canonical form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// durationPattern is what UnmarshalText accepts; the JSON Schema uses it too.
const (
	durationPattern = `^(0|[0-9]+w([0-9]+d)?` + goUnits + `*|[0-9]+d` + goUnits + `*|` + goUnits + `+)$`
	goUnits         = `([0-9]+(\.[0-9]+)?(h|m|s|ms|us|µs|ns))`
)

var longUnits = regexp.MustCompile(`^([0-9]+w)?([0-9]+d)?`)

// UnmarshalText reads a duration. Weeks, then days, come first and are whole.
// Negative durations are refused: no setting has a use for one.
func (d *Duration) UnmarshalText(text []byte) error {
	rest := string(text)
	if !matches(durationPattern, rest) {
		return fmt.Errorf("parse duration %q: expected a form such as 30s, 1h30m or 7d", text)
	}
	var total int64
	match := longUnits.FindStringSubmatch(rest)
	for i, unit := range []time.Duration{7 * 24 * time.Hour, 24 * time.Hour} {
		if match[i+1] == "" {
			continue
		}
		count, err := strconv.ParseInt(match[i+1][:len(match[i+1])-1], 10, 32)
		if err != nil || count > (1<<63-1-total)/int64(unit) {
			return fmt.Errorf("parse duration %q: it is longer than 290 years", text)
		}
		total += count * int64(unit)
	}
	if rest = rest[len(match[0]):]; rest != "" || match[0] == "" {
		part, err := time.ParseDuration(rest)
		if err != nil {
			return fmt.Errorf("parse duration %q: %w", text, err)
		}
		if total+int64(part) < 0 {
			return fmt.Errorf("parse duration %q: it is longer than 290 years", text)
		}
		total += int64(part)
	}
	*d = Duration(total)
	return nil
}
