package kafka

import (
	"context"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// setSession gives a group of KIP-848 its session timeout: there it is a setting of
// the group, not of its members. Without the right to set it, the brokers' default
// counts.
func (c *consumer) setSession(ctx context.Context) {
	timeout := c.broker.config.SessionTimeout
	request := kmsg.NewPtrIncrementalAlterConfigsRequest()
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeGroupConfig, c.subscription.Group
	for name, value := range map[string]time.Duration{
		"consumer.session.timeout.ms":    timeout,
		"consumer.heartbeat.interval.ms": min(5*time.Second, timeout/3),
	} {
		config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		text := strconv.FormatInt(value.Milliseconds(), 10)
		config.Name, config.Op, config.Value = name, kmsg.IncrementalAlterConfigOpSet, &text
		resource.Configs = append(resource.Configs, config)
	}
	request.Resources = append(request.Resources, resource)
	answer, err := request.RequestWith(ctx, c.broker.client)
	if err == nil && len(answer.Resources) > 0 {
		err = kerr.ErrorForCode(answer.Resources[0].ErrorCode)
	}
	if err != nil {
		c.logger.Warn("set the group's session timeout: the brokers' own setting counts", "session timeout", timeout, "error", err)
	}
}
