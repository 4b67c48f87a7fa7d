package probe

import (
	"context"
	"fmt"
	"time"
)

const (
	attempt = 3 * time.Second
	pause   = 100 * time.Millisecond
)

// Await repeats ask until it answers, ctx ends, or alive says that the server
// has ended and no answer can come. It reports the last refusal.
func Await(ctx context.Context, ask func(context.Context) (string, error), alive func() error) (string, error) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		once, cancel := context.WithTimeout(ctx, attempt)
		version, err := ask(once)
		cancel()
		if err == nil {
			return version, nil
		}
		if dead := alive(); dead != nil {
			return "", dead
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("wait for an answer: %w; last: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
