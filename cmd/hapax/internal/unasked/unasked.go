// Package unasked keeps Bubble Tea, with which `hapax new` asks, from asking the terminal
// for its colours when any command starts, as its init does: the terminal's answer is looked
// for in what was typed or pasted ahead, and that, such as the next command, is gone.
//
// Go initialises the first package, by path, whose imports are initialised. This one imports
// the standard library only, and its path is before that of termenv, which Bubble Tea needs:
// so it comes before both.
package unasked

import "os"

var term, set = os.LookupEnv("TERM")

// Terminals called dumb are not asked.
func init() { _ = os.Setenv("TERM", "dumb") }

// Restore gives TERM back. It is called when all imports are initialised.
func Restore() {
	if set {
		_ = os.Setenv("TERM", term)
	} else {
		_ = os.Unsetenv("TERM")
	}
}
