package rabbitmq

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestQueueNamesAreInjective(t *testing.T) {
	name, err := queueName("orders.created", "service.handler_1")
	require.NoError(t, err)
	require.Equal(t, "orders.created_service.handler_1", name, "as the official adapter's suffix rule has it")
	text := rapid.StringMatching(`[a_%25F.]{1,6}`)
	rapid.Check(t, func(t *rapid.T) {
		topic, group := text.Draw(t, "topic"), text.Draw(t, "group")
		otherTopic, otherGroup := text.Draw(t, "other topic"), text.Draw(t, "other group")
		one, err := queueName(topic, group)
		require.NoError(t, err)
		other, err := queueName(otherTopic, otherGroup)
		require.NoError(t, err)
		require.Equal(t, topic == otherTopic && group == otherGroup, one == other)
	})
}

func TestTopicOfAQueue(t *testing.T) {
	text := rapid.StringMatching(`[a_%25F.-]{1,6}`)
	rapid.Check(t, func(t *rapid.T) {
		topic, group := text.Draw(t, "topic"), text.Draw(t, "group")
		queue, err := queueVariant(topic, rapid.SampledFrom([]string{"", "%partition-7", "%delay-30s-7"}).Draw(t, "variant"), group)
		require.NoError(t, err)
		require.Equal(t, topic, topicOf(queue))
	})
	require.Empty(t, topicOf("another program's"))
}
