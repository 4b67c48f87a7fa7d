package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
)

// source is a Subscriber that makes its messages itself, and so costs little: what
// remains is the Router and what is plugged into it.
//
// It keeps the last messages in a ring. Before a place is used again, its message
// must be acknowledged; the wait is nearly always for the oldest, so one goroutine
// both sends and tracks.
type source struct {
	payload []byte
	ring    []*message.Message
	out     chan *message.Message
	close   sync.Once
}

func newSource(env Env) *source {
	return &source{
		payload: env.Payload,
		ring:    make([]*message.Message, env.InFlight),
		out:     make(chan *message.Message, min(64, env.InFlight)),
	}
}

// Subscribe implements message.Subscriber, for one subscription.
func (s *source) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	return s.out, nil
}

// Close implements message.Subscriber.
func (s *source) Close() error {
	s.close.Do(func() { close(s.out) })
	return nil
}

// send delivers a load and returns when all of it is acknowledged.
func (s *source) send(ctx context.Context, load Load) error {
	total := load.Deliveries()
	for i := range total + len(s.ring) {
		place := &s.ring[i%len(s.ring)]
		if err := settled(ctx, *place); err != nil {
			return err
		}
		*place = nil
		if i >= total {
			continue // only the rest of the ring is waited for
		}
		if err := load.pace.wait(ctx, i); err != nil {
			return err
		}
		msg := s.receive(load.id(i))
		msg.SetContext(ctx)
		*place = msg
		select {
		case s.out <- msg:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// receive makes a message as a client does that has read it from a connection:
// its own copy of the payload, and the metadata of an event of Hapax.
func (s *source) receive(id string) *message.Message {
	msg := message.NewMessage(id, slices.Clone(s.payload))
	msg.Metadata.Set(dedup.MetaEventID, id)
	return msg
}

// settled waits for a message to be acknowledged.
func settled(ctx context.Context, msg *message.Message) error {
	if msg == nil {
		return nil
	}
	select {
	case <-msg.Acked():
		return nil
	default:
	}
	select {
	case <-msg.Acked():
		return nil
	case <-msg.Nacked():
		return fmt.Errorf("message %s was not acknowledged", msg.UUID)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
