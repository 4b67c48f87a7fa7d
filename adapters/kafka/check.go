package kafka

import (
	"context"

	"github.com/hapax-go/hapax/adapters"
)

// Check implements adapters.Broker: it looks at the topics that this Broker uses
// already. Checks looks at those that it is about to use.
func (b *Broker) Check(ctx context.Context) []adapters.Finding {
	nodes, err := b.admin.ListBrokers(ctx)
	if err != nil {
		return []adapters.Finding{{Name: "kafka-brokers", Fatal: true, Problem: err.Error(), Fix: "check the addresses, and that the brokers run"}}
	}
	var findings []adapters.Finding
	b.topics.Range(func(name, _ any) bool {
		findings = append(findings, b.topicFindings(ctx, name.(string), len(nodes))...)
		return true
	})
	for _, c := range b.consumers() {
		if window := b.window(c.subscription.Group); window > 0 {
			use := adapters.Use{Topic: c.topic, Group: c.subscription.Group, Window: window}
			findings = append(findings, b.logFindings(ctx, use, len(nodes))...)
		}
	}
	var wrong []adapters.Finding
	for _, finding := range findings {
		if !finding.OK() {
			wrong = append(wrong, finding)
		}
	}
	return wrong
}
