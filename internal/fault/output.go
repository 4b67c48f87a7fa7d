package fault

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

// keptLines is how many of a child's last lines go into an error: a Go panic's
// message and the top of its stack.
const keptLines = 40

// maxLine bounds a line; the rest of a longer one counts as the next line.
const maxLine = 64 << 10

// outputLog passes a child's lines to the log and keeps the last ones.
type outputLog struct {
	log *slog.Logger

	mu    sync.Mutex
	limit int // of last
	last  []string
}

func newOutputLog(log *slog.Logger, name string) *outputLog {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &outputLog{log: log.With("child", name), limit: keptLines}
}

func (o *outputLog) keepUpTo(lines int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.limit = lines
}

// read takes lines until the pipe ends. ReadSlice, not a Scanner: a Scanner
// gives up at a line that is too long, and the child would then block for ever
// on a pipe that nobody reads.
func (o *outputLog) read(pipe io.Reader) {
	lines := bufio.NewReaderSize(pipe, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		if text := string(bytes.TrimRight(line, "\r\n")); text != "" {
			o.log.Info(text)
			o.keep(text)
		}
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}

func (o *outputLog) keep(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.last) >= o.limit {
		o.last = slices.Delete(o.last, 0, 1)
	}
	o.last = append(o.last, line)
}

func (o *outputLog) tail() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.last)
}

func (o *outputLog) String() string {
	lines := o.tail()
	if len(lines) == 0 {
		return "(it printed nothing)"
	}
	return "\n\t" + strings.Join(lines, "\n\t")
}

// readLink follows what the child says on descriptor 3: "ready" once, and
// "event " with a JSON value any number of times. A line cut off by the child's
// death is dropped.
func (c *Child) readLink(pipe io.Reader, onEvent func(json.RawMessage)) {
	lines := bufio.NewReader(pipe)
	ready := sync.OnceFunc(func() { close(c.ready) })
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		word, data, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
		switch {
		case string(word) == "ready":
			ready()
		case string(word) == "event" && json.Valid(data):
			if onEvent != nil {
				onEvent(data)
			}
		default:
			c.log.log.Warn("child sent a line that is neither ready nor event", "line", string(line))
		}
	}
}
