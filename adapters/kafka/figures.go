package kafka

import (
	"context"

	"github.com/hapax-go/hapax/adapters"
)

// Figures implements adapters.Meter. A backlog counts offsets: messages, and the
// markers of transactions.
func (b *Broker) Figures(ctx context.Context, _ []adapters.Use) (figures []adapters.Figure, err error) {
	stats, err := b.Stats(ctx)
	for _, group := range stats.Groups {
		figures = append(figures, adapters.GroupFigures(group.Topic, group.Group, group.Lag, group.Pending, -1)...)
		figures = append(figures, adapters.Figure{
			Name: "hapax_kafka_partitions", Help: "Partitions assigned to this instance.", Labels: []string{"topic", group.Topic, "group", group.Group}, Value: float64(group.Partitions),
		})
	}
	counter := func(name, help string, value int64) {
		figures = append(figures, adapters.Figure{Name: name, Help: help, Counter: true, Value: float64(value)})
	}
	counter("hapax_kafka_transactions_total", "Transactions committed.", stats.Transactions)
	counter("hapax_kafka_aborts_total", "Transactions aborted.", stats.Aborts)
	counter("hapax_kafka_unknown_commits_total", "Commits that were not answered and had to be looked up.", stats.Unknown)
	counter("hapax_kafka_rebalances_total", "Assignments of partitions.", stats.Rebalances)
	counter("hapax_kafka_lost_partitions_total", "Partitions that the group took away without asking.", stats.LostPartitions)
	return append(figures,
		adapters.Figure{Name: "hapax_kafka_ids", Help: "Processed IDs in memory.", Value: float64(stats.IDs)},
		adapters.Figure{Name: "hapax_kafka_id_bytes", Help: "Memory of the processed IDs.", Value: float64(stats.IDBytes)}), err
}
