package rabbitmq

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/hapax-go/hapax/adapters"
)

// Check implements adapters.Broker.
func (b *Broker) Check(ctx context.Context) (findings []adapters.Finding) {
	conn, err := b.consuming.get(ctx)
	if err != nil {
		return []adapters.Finding{{Name: "rabbitmq-connection", Fatal: true, Problem: err.Error(), Fix: "bring the server up"}}
	}
	if v := serverVersion(conn); b.config.QueueType == Quorum && !v.atLeast(3, 10) {
		findings = append(findings, adapters.Finding{
			Name:    "rabbitmq-dead-letters-at-most-once",
			Problem: fmt.Sprintf("the server is RabbitMQ %d.%d: when a quorum queue's delivery limit is reached, a dead letter can get lost on its way", v.major, v.minor),
			Fix:     "upgrade to 3.10 or later",
		})
	}
	if b.config.QueueType == Classic {
		findings = append(findings, adapters.Finding{
			Name:    "rabbitmq-classic-queues",
			Problem: "classic queues are on one node, and do not count deliveries: a message that kills its consumer every time comes back for ever",
			Fix:     "set rabbitmq.queue_type: quorum",
		})
	}
	if reason := b.publishing.blockedBecause(); reason != "" {
		findings = append(findings, adapters.Finding{
			Name:    "rabbitmq-blocked",
			Problem: "the server has blocked publishing connections: " + reason,
			Fix:     "free memory or disk on the server; the service starts, and waits for it",
		})
	}
	if b.config.HandlerTimeout > b.config.ConsumerTimeout {
		findings = append(findings, adapters.Finding{
			Name: "rabbitmq-handler-timeout",
			Problem: fmt.Sprintf("a handler may run for %s, but the server takes a message back after %s (consumer_timeout) and closes the consumer's channel: a handler that slow never finishes",
				b.config.HandlerTimeout, b.config.ConsumerTimeout),
			Fix: "set consumer.handler_timeout below rabbitmq.consumer_timeout, or raise the latter here and in the server",
		})
	}
	if window := b.config.DedupWindow; window > 0 {
		if finding := b.checkWindow(window, b.config.MaxDeliveries); !finding.OK() {
			findings = append(findings, finding)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for queue, reason := range b.different {
		findings = append(findings, adapters.Finding{
			Name:    "rabbitmq-queue-differs",
			Problem: fmt.Sprintf("queue %q exists with other arguments than the config asks for, and is used as it is: %s", queue, reason),
			Fix:     "to change it, let the consumers empty it, delete it, and start the service again; or set the argument by a policy",
		})
	}
	for queue, holds := range b.leftovers {
		findings = append(findings, adapters.Finding{
			Name:    "rabbitmq-queue-left-over",
			Problem: fmt.Sprintf("queue %q is from before rabbitmq.partitions was changed (%s at the start): it still gets a copy of every message and fills up, and what it held then may be unprocessed", queue, holds),
			Fix:     "let consumers with the former setting empty it, as duplicates go by, then delete it, and the other queues of that setting",
		})
	}
	return findings
}

// checkWindow compares how long marks last with how late a message may come again.
func (b *Broker) checkWindow(window time.Duration, maxDeliveries int) adapters.Finding {
	finding, horizon := adapters.Finding{Name: "rabbitmq-window-too-short"}, b.horizon(maxDeliveries)
	switch {
	case horizon == unlimited:
		finding.Problem = fmt.Sprintf("dedup.window is %s, but without a limit of deliveries there is no limit either to how late RabbitMQ may deliver a message again: such a copy would take effect a second time", window)
		finding.Fix = "set consumer.max_deliveries, or rabbitmq.delivery_limit"
	case window < horizon:
		finding.Problem = fmt.Sprintf("dedup.window is %s, but RabbitMQ may deliver a message again %s after it was processed (consumer_timeout %s, for each of the deliveries that are allowed): such a copy would take effect a second time",
			window, horizon, b.config.ConsumerTimeout)
		finding.Fix = fmt.Sprintf("set dedup.window to %s or more", horizon)
	default:
		finding.Found = fmt.Sprintf("window %s, redelivery within %s", window, horizon)
	}
	return finding
}

// horizon is how long after its first delivery a message may come again: each
// delivery may be held for the consumer timeout before the server takes it back.
func (b *Broker) horizon(maxDeliveries int) time.Duration {
	deliveries := b.config.DeliveryLimit
	if deliveries <= 0 {
		deliveries = adapters.Subscription{MaxDeliveries: maxDeliveries}.WithDefaults().MaxDeliveries
	}
	if deliveries < 0 {
		return unlimited
	}
	return time.Duration(deliveries) * b.config.ConsumerTimeout
}

// unlimited is the horizon of a queue that delivers for ever.
const unlimited = time.Duration(math.MaxInt64)
