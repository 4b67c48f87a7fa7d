package flow

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Drain ends the flow: it hands out nothing more, takes back what nobody has
// read, waits until everything handed out is acked or nacked, abandons the rest
// and closes Messages. When ctx ends first, what is still unfinished is abandoned
// too, and Drain returns an error that says how many those were.
//
// Messages is closed last, because the Router closes a handler's publisher when
// the channel closes, while handlers may still need it.
//
// Drain may be called again, and concurrently: every call waits for the end, and
// the first ctx to end counts for all.
func (f *Flow) Drain(ctx context.Context) error {
	f.mu.Lock()
	if !f.closing {
		f.closing = true
		close(f.draining)
		if f.used == 0 {
			f.finish()
		}
	}
	f.mu.Unlock()

	for ended, expired := false, ctx.Done(); !ended; {
		select {
		case msg, open := <-f.out:
			if open {
				f.recall(msg)
			}
			ended = !open
		case <-expired:
			f.expire(context.Cause(ctx))
			expired = nil
		}
	}
	f.goroutines.Wait()
	if cut := f.cut.Load(); cut > 0 {
		return fmt.Errorf("drain: %d messages were still being handled and were abandoned: %w", cut, f.expired)
	}
	return nil
}

// recall takes back a message that nobody has read. Nacking it tells whoever
// waits for it; the map tells them who nacked.
func (f *Flow) recall(msg *message.Message) {
	f.mu.Lock()
	f.recalled[msg] = struct{}{}
	f.mu.Unlock()
	msg.Nack()
}

func (f *Flow) wasRecalled(msg *message.Message) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, recalled := f.recalled[msg]
	return recalled
}

func (f *Flow) expire(cause error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.expired == nil {
		f.expired = cause
		close(f.deadline)
	}
}

// finish runs once: when the flow is closing and the last slot was given back.
// Nobody sends any more, because every sender holds a slot. f.mu is held.
func (f *Flow) finish() {
	// Messages abandoned at the deadline may still lie unread in the channel.
	for {
		select {
		case <-f.out:
			continue
		default:
		}
		break
	}
	close(f.out)
	close(f.handed)
}
