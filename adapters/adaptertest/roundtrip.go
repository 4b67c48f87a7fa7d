package adaptertest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// roundtrip: a message arrives as it was published.
func (s *suite) roundtrip(t *testing.T) {
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	hundred := newMessage("hundred", "x")
	for i := range 100 {
		hundred.Metadata.Set(fmt.Sprintf("name-%d", i), fmt.Sprintf("value %d", i))
	}
	noMetadata := message.NewMessage("without-metadata", message.Payload("x"))
	large := 200 << 10
	if s.capabilities.MaxPayload > 0 {
		large = min(large, s.capabilities.MaxPayload/2)
	}
	cases := []struct {
		name string
		msg  *message.Message
	}{
		{"plain", noMetadata},
		{"key and event ID", newMessage("order-17", `{"id":17}`, dedup.MetaKey, "customer-3")},
		{"binary payload", newMessage("binary", string(everyByte))},
		{"empty payload", newMessage("empty", "")},
		{"large payload", newMessage("large", strings.Repeat("x", large))},
		{"100 metadata entries", hundred},
		{"unicode", newMessage("ein Stück 鉄 🚲", "Stück", dedup.MetaKey, "schlüssel 鍵", "größe", "∞ \"quoted\"\n\ttext", "empty", "")},
		{"awkward names", newMessage("awkward", "x", "Content-Type", "text/plain", "a.b/c:d e", "x", "UPPER", "U", "upper", "l")},
		{"long event ID", newMessage(strings.Repeat("long ", 200), "x", dedup.MetaKey, strings.Repeat("key ", 100))},
	}
	broker := s.open(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			topic := s.Topic(t)
			m := s.join(t, broker, topic, adapters.Subscription{})
			s.publish(t, broker, topic, c.msg)
			received := m.receive(t)
			requireSame(t, c.msg, received)
			delivery := adapters.DeliveryFrom(received.Context())
			require.NotNil(t, delivery, "the message's context has no adapters.Delivery")
			require.Equal(t, 1, delivery.Attempt)
			require.NotEmpty(t, delivery.Position)
			require.True(t, received.Ack())
		})
	}
	t.Run("batch", func(t *testing.T) {
		topic := s.Topic(t)
		m := s.join(t, broker, topic, adapters.Subscription{})
		var batch []*message.Message
		for i := range 250 {
			batch = append(batch, newMessage(fmt.Sprint(i), "x"))
		}
		s.publish(t, broker, topic, batch...)
		var seen tally
		m.handle(func(msg *message.Message) { seen.add(msg); msg.Ack() })
		s.eventually(t, seen.reached(len(batch)), "not all of a batch came")
		require.Equal(t, once(batch), seen.snapshot())
	})
}
