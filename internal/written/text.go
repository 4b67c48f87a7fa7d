// Package written keeps what is written to it, for tests and harnesses that read a log
// while others write to it.
package written

import (
	"bytes"
	"sync"
)

// Text collects what several goroutines write. The zero Text is ready.
type Text struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

// Write implements io.Writer.
func (t *Text) Write(data []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buffer.Write(data)
}

// String is what has been written until now.
func (t *Text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buffer.String()
}
