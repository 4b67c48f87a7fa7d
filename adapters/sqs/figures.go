package sqs

import (
	"context"
	"errors"

	"github.com/hapax-go/hapax/adapters"
)

// Figures implements adapters.Meter. SQS counts approximately, and knows no
// consumers.
func (b *Broker) Figures(ctx context.Context, uses []adapters.Use) (figures []adapters.Figure, err error) {
	var errs []error
	for _, use := range uses {
		backlog, err := b.Backlog(ctx, use.Topic)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		figures = append(figures, adapters.GroupFigures(use.Topic, use.Group, backlog.Waiting+backlog.Delayed, backlog.InFlight, -1)...)
	}
	return figures, errors.Join(errs...)
}
