package rabbitmq

import (
	"context"
	"errors"

	"github.com/hapax-go/hapax/adapters"
)

// Figures implements adapters.Meter. AMQP does not tell how many messages are
// pending.
func (b *Broker) Figures(ctx context.Context, uses []adapters.Use) (figures []adapters.Figure, err error) {
	var errs []error
	for _, use := range uses {
		depth, err := b.Depth(ctx, use.Topic, adapters.Subscription{Group: use.Group, Ordering: use.Ordering})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		figures = append(figures, adapters.GroupFigures(use.Topic, use.Group, int64(depth.Ready), -1, int64(depth.Consumers))...)
	}
	blocked := 0.0
	if b.publishing.blockedBecause() != "" {
		blocked = 1
	}
	figures = append(figures, adapters.Figure{Name: "hapax_rabbitmq_blocked", Help: "1 while the server reads no publishes: memory or disk are short.", Value: blocked})
	return figures, errors.Join(errs...)
}
