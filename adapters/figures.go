package adapters

import "context"

// Meter is implemented by brokers that can be measured. The service turns the
// figures into metrics, whenever it is asked for them.
type Meter interface {
	// Figures measures the broker, and the topics and groups of uses. What cannot be
	// read is left out, and reported by the error; what was read counts.
	Figures(ctx context.Context, uses []Use) ([]Figure, error)
}

// Figure is one measurement.
type Figure struct {
	// Name in Prometheus' form: "hapax_kafka_transactions_total". One name has one
	// help text, one kind and one set of labels.
	Name, Help string
	// Counter only grows, since the broker was opened; else it is a gauge.
	Counter bool
	// Labels are name, value, name, value, …
	Labels []string
	Value  float64
}

// Names of figures that several brokers have.
const (
	// FigureBacklog counts the messages of a topic that a group has yet to take.
	FigureBacklog = "hapax_backlog_messages"
	// FigurePending counts those it has taken and not acknowledged.
	FigurePending = "hapax_pending_messages"
	// FigureConsumers counts the members of the group.
	FigureConsumers = "hapax_consumers"
	// FigureLost counts the messages that were lost, as far as the broker notices.
	FigureLost = "hapax_reported_lost_total"
)

// GroupFigures are a topic's backlog and a group's pending messages; negative
// values are not known, and left out.
func GroupFigures(topic, group string, backlog, pending, consumers int64) (figures []Figure) {
	for _, f := range []struct {
		name, help string
		value      int64
	}{
		{FigureBacklog, "Messages of the topic that the group has yet to take.", backlog},
		{FigurePending, "Messages that the group has taken and not acknowledged.", pending},
		{FigureConsumers, "Members of the group.", consumers},
	} {
		if f.value >= 0 {
			figures = append(figures, Figure{Name: f.name, Help: f.help, Labels: []string{"topic", topic, "group", group}, Value: float64(f.value)})
		}
	}
	return figures
}
