package kafka_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/kafka"
)

// Two operators remove letters at the same time: what one has removed does not come back
// with what the other notes.
func TestTwoOperatorsRemoveLetters(t *testing.T) {
	t.Parallel()
	config := fast(realKafka(t))
	config.CreateTopics, config.Partitions = true, 1
	broker, err := kafka.Open(t.Context(), config)
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	topic := newTopic(t)
	for _, uuid := range []string{"1", "2", "3", "4", "5"} {
		require.NoError(t, broker.Publisher().Publish(topic, message.NewMessage(uuid, []byte(uuid))))
	}
	remove := func(uuid string, meanwhile func()) (seen []string) {
		require.NoError(t, broker.Letters(t.Context(), topic, func(letter *message.Message) (bool, error) {
			if seen = append(seen, letter.UUID); letter.UUID == uuid {
				meanwhile()
			}
			return letter.UUID == uuid, nil
		}))
		return seen
	}
	remove("2", func() { remove("4", func() {}) }) // out of order: noted beside the offset
	require.Equal(t, []string{"1", "3", "5"}, remove("", func() {}))
	remove("3", func() { remove("1", func() {}) }) // the offset moves meanwhile
	require.Equal(t, []string{"5"}, remove("", func() {}))
}
