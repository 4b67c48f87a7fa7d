package demo

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// lines shows a run as lines of text: one a second, and one for each fault.
type lines struct {
	out io.Writer

	mu      sync.Mutex
	started time.Time
	shown   time.Time
	doing   string
	sent    int
	glances map[string]glance
}

func newLines(out io.Writer) *lines { return &lines{out: out, glances: map[string]glance{}} }

func (l *lines) begin(s settings, b broker) {
	l.started = time.Now()
	l.print("Black Friday on %s: %d orders, seed %d, %d consumers a lane; plain lane: %s\n", b.name, s.events, s.seed, s.consumers, b.plainBy)
}

func (l *lines) end() {}

func (l *lines) phase(name string, sent, _ int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doing, l.sent = name, sent
}

func (l *lines) glance(lane string, g glance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.glances[lane] = g
	if lane != laneHapax || time.Since(l.shown) < time.Second {
		return
	}
	l.shown = time.Now()
	plain, hapax := l.glances[lanePlain], l.glances[laneHapax]
	_, _ = fmt.Fprintf(l.out, "%5.1fs  %-15s sent %5d | plain: shipped %5d, duplicates %4d, kills %2d | hapax: shipped %5d, duplicates %4d, kills %2d\n",
		time.Since(l.started).Seconds(), l.doing, l.sent,
		plain.Shipped, plain.Duplicates, plain.Kills, hapax.Shipped, hapax.Duplicates, hapax.Kills)
}

func (l *lines) log(lane string) *slog.Logger {
	return slog.New(faultLog{tell: func(text string) {
		l.print("%5.1fs  %s: %s\n", time.Since(l.started).Seconds(), lane, text)
	}})
}

func (l *lines) print(format string, arguments ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = fmt.Fprintf(l.out, format, arguments...)
}

// faultLog is a slog handler that tells what happens to consumers in words.
type faultLog struct{ tell func(string) }

func (faultLog) Enabled(context.Context, slog.Level) bool { return true }

func (f faultLog) Handle(_ context.Context, record slog.Record) error {
	child := ""
	record.Attrs(func(attribute slog.Attr) bool {
		if attribute.Key == "child" {
			child = attribute.Value.String()
		}
		return child == ""
	})
	if child != "" { // what is about no child is the plan's bookkeeping
		f.tell(child + ": " + record.Message)
	}
	return nil
}

func (f faultLog) WithAttrs([]slog.Attr) slog.Handler { return f }
func (f faultLog) WithGroup(string) slog.Handler      { return f }
