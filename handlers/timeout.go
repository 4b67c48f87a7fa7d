package handlers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Timeout returns a Watermill middleware that gives each run of a handler a
// deadline, through its context. Place it inside of dedup: the commit is then
// not under the deadline. A handler that does not watch its context is not
// stopped, and one that succeeds late has succeeded. d ≤ 0 means no deadline.
func Timeout(d time.Duration) message.HandlerMiddleware {
	return func(handle message.HandlerFunc) message.HandlerFunc {
		if d <= 0 {
			return handle
		}
		return func(msg *message.Message) ([]*message.Message, error) {
			outer := msg.Context()
			ctx, cancel := context.WithTimeout(outer, d)
			defer cancel()
			defer msg.SetContext(outer)
			msg.SetContext(ctx)
			outputs, err := handle(msg)
			if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil && outer.Err() == nil {
				err = fmt.Errorf("handler ran past its deadline of %s: %w", d, err)
			}
			return outputs, err
		}
	}
}
