package dedup

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Plain is the strategy "none": no deduplication. Every delivery is Fresh and
// outputs are published before the acknowledgement: at-least-once delivery as
// any careful consumer does it. Control runs and comparisons use it.
type Plain struct {
	Publisher message.Publisher
}

// Claim implements Strategy.
func (p Plain) Claim(_ context.Context, events []*Event) (Claim, error) {
	for _, event := range events {
		event.Verdict = Fresh
	}
	return plainClaim(p), nil
}

// DeadLetter implements Strategy.
func (p Plain) DeadLetter(_ context.Context, _ *Event, letter Output) error {
	return publish(p.Publisher, []Output{letter})
}

type plainClaim Plain

func (plainClaim) Context(ctx context.Context) context.Context { return ctx }

func (p plainClaim) Commit(_ context.Context, outputs []Output) error {
	return publish(p.Publisher, outputs)
}

func (plainClaim) Release(context.Context) {}
