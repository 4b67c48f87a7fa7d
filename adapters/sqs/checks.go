package sqs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// The names of the checks.
const (
	checkQueue     = "sqs-queue"
	checkSettings  = "sqs-settings"
	checkRedrive   = "sqs-redrive"
	checkRetention = "sqs-retention"
)

var _ adapters.Checker = (*Broker)(nil)

// Checks implements adapters.Checker: is there a queue, does its redrive policy give
// messages up before they had a chance, does it keep them longer than marks last?
// Whoever has asked for a topic decides what follows: Subscribe does not look again.
func (b *Broker) Checks(ctx context.Context, uses []adapters.Use) (findings []adapters.Finding) {
	for _, use := range uses {
		q, found := b.checkQueue(ctx, use.Topic)
		found.Fatal = !found.OK()
		findings = append(findings, found)
		if q != nil {
			for _, found := range q.checkSettings(ctx, use.MaxDeliveries, use.Window) {
				if found.Name != checkRetention || use.Strategy != dedup.StrategyNone {
					findings = append(findings, found)
				}
			}
		}
		if use.DeadLetter != "" {
			// Without it nothing is lost: a message that cannot be buried stays.
			_, found = b.checkQueue(ctx, use.DeadLetter)
			findings = append(findings, found)
		}
		b.mu.Lock()
		b.checked[use.Topic] = true
		b.mu.Unlock()
	}
	return findings
}

// checkQueue looks for the queue of a topic; nil when there is none yet.
func (b *Broker) checkQueue(ctx context.Context, topic string) (*queue, adapters.Finding) {
	ctx, cancel := context.WithTimeout(ctx, b.config.Timeout)
	defer cancel()
	finding := adapters.Finding{Name: checkQueue, About: topic}
	q, err := b.newQueue(topic)
	if err != nil {
		finding.Problem, finding.Fix = err.Error(), "choose another name under topics in the config"
		return nil, finding
	}
	q.url, err = q.lookUp(ctx)
	finding.About = q.name
	switch {
	case err != nil:
		finding.Problem, finding.Fix = err.Error(), "permit sqs:GetQueueUrl, and check region and endpoint"
		return nil, finding
	case q.url != "":
		finding.Found = "a standard queue"
		if q.fifo {
			finding.Found = "a FIFO queue"
		}
		return q, finding
	case b.config.Create:
		finding.Found = "missing; sqs.create makes it"
	default:
		finding.Problem = fmt.Sprintf("topic %q has no queue at %s", topic, b.address())
		finding.Fix = "create it, or set sqs.create: true"
	}
	return nil, finding
}

// checkSettings reads what the queue does with messages that are not deleted.
func (q *queue) checkSettings(ctx context.Context, maxDeliveries int, window time.Duration) []adapters.Finding {
	ctx, cancel := context.WithTimeout(ctx, q.broker.config.Timeout)
	defer cancel()
	output, err := q.broker.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &q.url, AttributeNames: []types.QueueAttributeName{
		types.QueueAttributeNameRedrivePolicy, types.QueueAttributeNameMessageRetentionPeriod,
	}})
	if err != nil {
		return []adapters.Finding{{
			Name: checkSettings, About: q.name, Problem: fmt.Sprintf("its redrive policy and retention cannot be read: %v", err),
			Fix: "permit sqs:GetQueueAttributes",
		}}
	}
	redrive, retention := q.checkRedrive(output.Attributes, maxDeliveries), q.checkRetention(output.Attributes, window)
	redrive.Name, redrive.About = checkRedrive, q.name
	retention.Name, retention.About = checkRetention, q.name
	return []adapters.Finding{redrive, retention}
}

func (q *queue) checkRedrive(attributes map[string]string, maxDeliveries int) (f adapters.Finding) {
	text := attributes[string(types.QueueAttributeNameRedrivePolicy)]
	if text == "" {
		f.Found = "no redrive policy of its own: Hapax gives messages up, with the reason"
		return f
	}
	var policy struct {
		MaxReceiveCount json.Number `json:"maxReceiveCount"`
	}
	err := json.Unmarshal([]byte(text), &policy)
	limit, bad := strconv.Atoi(policy.MaxReceiveCount.String())
	switch {
	case err != nil || bad != nil:
		f.Problem = fmt.Sprintf("its redrive policy cannot be read: %v", errors.Join(err, bad))
		f.Fix = "set maxReceiveCount to a number above max_deliveries"
	case limit <= 1:
		f.Fatal = true
		f.Problem = "its redrive policy has maxReceiveCount 1: a message whose consumer stops or crashes once would go to the dead-letter queue without ever being processed"
		f.Fix = "set maxReceiveCount to 2 or more, better above max_deliveries"
	case maxDeliveries <= 0 || limit <= maxDeliveries:
		f.Problem = fmt.Sprintf("SQS gives messages up before Hapax does, and says no reason: its redrive policy has maxReceiveCount %d, max_deliveries is %d", limit, maxDeliveries)
		f.Fix = "raise maxReceiveCount above max_deliveries"
	default:
		f.Found = fmt.Sprintf("maxReceiveCount %d, above max_deliveries (%d)", limit, maxDeliveries)
	}
	return f
}

func (q *queue) checkRetention(attributes map[string]string, window time.Duration) (f adapters.Finding) {
	retention, err := strconv.Atoi(attributes[string(types.QueueAttributeNameMessageRetentionPeriod)])
	kept := time.Duration(retention) * time.Second
	switch {
	case err != nil:
		f.Problem = "the server does not say how long the queue keeps messages"
		f.Fix = "see to it yourself that dedup.window is longer"
	case window < kept:
		f.Fatal = true
		f.Problem = fmt.Sprintf("the queue keeps messages longer (%s) than dedup.window remembers events (%s): a late copy would take effect again", kept, window)
		f.Fix = "raise the window, or lower the queue's retention"
	default:
		f.Found = fmt.Sprintf("messages are kept %s, marks %s", kept, window)
	}
	return f
}

// inspect is Subscribe's look at a queue that nobody has checked: it refuses what
// loses messages, and warns of the rest: nobody can allow it by name here.
func (q *queue) inspect(ctx context.Context, maxDeliveries int) error {
	b := q.broker
	b.mu.Lock()
	checked := b.checked[q.topic]
	b.mu.Unlock()
	if checked {
		return nil
	}
	for _, f := range q.checkSettings(ctx, maxDeliveries, b.config.DedupWindow) {
		switch {
		case f.OK(), f.Name == checkRetention && b.config.DedupWindow == 0:
		case f.Fatal && f.Name != checkRetention:
			return fmt.Errorf("check %s: queue %q: %s: %s", f.Name, f.About, f.Problem, f.Fix)
		default:
			b.config.Logger.Warn("check "+f.Name, "queue", f.About, "problem", f.Problem, "fix", f.Fix)
		}
	}
	return nil
}
