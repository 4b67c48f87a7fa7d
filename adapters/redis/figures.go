package redis

import (
	"context"
	"errors"

	"github.com/hapax-go/hapax/adapters"
)

// Figures implements adapters.Meter.
func (b *Broker) Figures(ctx context.Context, uses []adapters.Use) ([]adapters.Figure, error) {
	figures := []adapters.Figure{{
		Name: adapters.FigureLost, Help: "Messages that were removed before they were acknowledged.", Counter: true, Value: float64(b.Losses()),
	}}
	var errs []error
	for _, use := range uses {
		groups, err := b.Stats(ctx, use.Topic)
		errs = append(errs, err)
		for _, group := range groups {
			if group.Group == use.Group {
				figures = append(figures, adapters.GroupFigures(group.Topic, group.Group, group.Backlog, group.Pending, group.Consumers)...)
			}
		}
	}
	return figures, errors.Join(errs...)
}
