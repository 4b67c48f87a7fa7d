package marks

import (
	_ "embed"
	"fmt"
	"time"

	"github.com/hapax-go/hapax/dedup"
)

// Lua is the head of every script that reads or writes marks.
//
//go:embed marks.lua
var Lua string

// Slices is how many slices of time a window has. A mark may last one slice
// longer than its window.
const Slices = 8

// Set names a set of marks with one window.
type Set struct {
	// Key holds the directory; the buckets are Key:0, Key:1, ...
	Key string
	// Window is how long a mark lasts, at least.
	Window time.Duration
}

// NewSet names the set of a window under a prefix. In a cluster the prefix has
// the hash tag that keeps the set on one node.
func NewSet(prefix string, window time.Duration) Set {
	return Set{Key: fmt.Sprintf("%s:ids:%d", prefix, window.Milliseconds()), Window: window}
}

// SliceLength is the length of a slice of time, in milliseconds.
func (s Set) SliceLength() int64 { return max(s.Window.Milliseconds()/Slices, 1) }

// Tag is what a mark keeps of a digest: 16 bits, which find a conflict with all
// but one in 65,535 digests. It is zero for the zero digest only.
type Tag [2]byte

// NewTag folds a digest.
func NewTag(digest dedup.Digest) (tag Tag) {
	if digest == (dedup.Digest{}) {
		return tag
	}
	for i, b := range digest {
		tag[i%2] ^= b
	}
	if tag == (Tag{}) {
		tag[1] = 1
	}
	return tag
}
