package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, written with a binary unit: "16MiB". A bare number
// is bytes.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// String returns the canonical form, in the largest unit that divides the size:
// "16MiB", "1000B", "0B".
func (s Size) String() string {
	for _, unit := range sizeUnits {
		if s != 0 && int64(s)%unit.bytes == 0 {
			return strconv.FormatInt(int64(s)/unit.bytes, 10) + unit.name
		}
	}
	return "0B"
}

// MarshalText returns the canonical form.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// sizePattern is what UnmarshalText accepts; the JSON Schema uses it too.
const sizePattern = `^[0-9]+(B|KiB|MiB|GiB|TiB)?$`

// UnmarshalText reads a size. Decimal units (MB) are refused rather than guessed
// about: some mean 10⁶ by them and some 2²⁰.
func (s *Size) UnmarshalText(text []byte) error {
	number, factor := string(text), int64(1)
	for _, unit := range sizeUnits {
		if head, ok := strings.CutSuffix(number, unit.name); ok {
			number, factor = head, unit.bytes
			break
		}
	}
	count, err := strconv.ParseUint(number, 10, 63)
	if err != nil || !matches(sizePattern, string(text)) {
		return fmt.Errorf("parse size %q: units are B, KiB, MiB, GiB and TiB", text)
	}
	if int64(count) > math.MaxInt64/factor {
		return fmt.Errorf("parse size %q: it is larger than 8 EiB", text)
	}
	*s = Size(int64(count) * factor)
	return nil
}
