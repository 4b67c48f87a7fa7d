package sqlite

import (
	"context"

	"github.com/hapax-go/hapax/adapters"
)

// Figures implements adapters.Meter.
func (b *Broker) Figures(ctx context.Context, uses []adapters.Use) (figures []adapters.Figure, err error) {
	groups, err := b.Stats(ctx)
	for _, group := range groups {
		for _, use := range uses {
			if use.Topic == group.Topic && use.Group == group.Group {
				figures = append(figures, adapters.GroupFigures(group.Topic, group.Group, group.Backlog, group.Pending, group.Consumers)...)
			}
		}
	}
	return figures, err
}
