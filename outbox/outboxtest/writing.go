package outboxtest

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/relay"
)

// measuring notes how large the largest call was.
type measuring struct {
	message.Publisher
	largest atomic.Int64
}

// Publish implements message.Publisher.
func (m *measuring) Publish(topic string, messages ...*message.Message) error {
	size := int64(0)
	for _, msg := range messages {
		size += int64(len(msg.Payload))
	}
	for {
		before := m.largest.Load()
		if size <= before || m.largest.CompareAndSwap(before, size) {
			return m.Publisher.Publish(topic, messages...)
		}
	}
}

var writing = []check{
	{"RollbackPublishesNothingCommitAll", func(b *bench) {
		b.write(false, "orders", event("undone", "k"))
		b.relay()
		var want []string
		var messages []*message.Message
		for i := range 200 { // more than one statement takes
			want = append(want, fmt.Sprintf("e%03d", i))
			messages = append(messages, event(want[i], "k"))
		}
		b.write(true, "orders", messages...)
		b.write(false, "orders", event("undone too", "k"))
		b.expect(want...)
		require.Equal(b, want, b.Broker.IDs(), "the order within a transaction")
	}},

	{"MessagesCrossUnchanged", func(b *bench) {
		binary := make([]byte, 256)
		for i := range binary {
			binary[i] = byte(i)
		}
		sent := message.NewMessage("uuid \xff\x00", bytes.Repeat(binary, 40))
		sent.Metadata = message.Metadata{
			dedup.MetaEventID: "order/é/1", dedup.MetaKey: "key\x00\xfe", "empty": "", "broken \xff": "value \xfe\x00", "looks": "hapax_base64:aGFwYXg=", "json": `{"a":"\u0000<>&"}`,
		}
		messages, want := []*message.Message{sent, {UUID: "no payload"}}, []string{"order/é/1", "no payload"}
		for i := range 20 { // large batches are written in another way
			want = append(want, fmt.Sprint("plain ", i))
			messages = append(messages, event(want[i+2], "k"))
		}
		b.write(true, "orders/eu äöü 1", messages...)
		b.relay()
		b.expect(want...)
		for _, got := range b.Broker.All() {
			require.Equal(b, "orders/eu äöü 1", got.Topic)
			if strings.HasPrefix(got.Message.UUID, "plain ") {
				require.Equal(b, "payload of "+got.Message.UUID, string(got.Message.Payload))
				continue
			}
			require.NotEmpty(b, got.Message.Metadata.Get(dedup.MetaPublishedAt))
			delete(got.Message.Metadata, dedup.MetaPublishedAt)
			if got.Message.UUID == "no payload" {
				require.Empty(b, got.Message.Payload)
				require.Equal(b, message.Metadata{dedup.MetaEventID: "no payload"}, got.Message.Metadata)
				continue
			}
			require.Equal(b, sent.UUID, got.Message.UUID)
			require.Equal(b, sent.Payload, got.Message.Payload)
			require.Equal(b, sent.Metadata, got.Message.Metadata)
		}
	}},

	{"ManyLargeMessages", func(b *bench) {
		// Together they are more than MySQL takes as one statement.
		var want []string
		var messages []*message.Message
		for i := range 24 {
			want = append(want, fmt.Sprintf("e%03d", i))
			messages = append(messages, event(want[i], "k"))
			messages[i].Payload = bytes.Repeat([]byte("large"), 200_000)
		}
		b.write(true, "orders", messages...)
		b.relay()
		b.expect(want...)
		require.Equal(b, want, b.Broker.IDs(), "the order within a transaction")
	}},

	{"ABacklogOfLargeMessagesIsReadInParts", func(b *bench) {
		// What a broker's outage leaves behind may be more than the memory there is.
		const large, most = 1 << 20, 16 << 20
		var want []string
		for i := range 60 {
			want = append(want, fmt.Sprintf("e%03d", i))
			msg := event(want[i], "k")
			msg.Payload = bytes.Repeat([]byte{'x'}, large)
			b.write(true, "orders", msg)
		}
		measured := &measuring{Publisher: b.Broker}
		b.relay(func(c *relay.Config) { c.Publisher = measured })
		b.expect(want...)
		require.Equal(b, want, b.Broker.IDs())
		require.LessOrEqual(b, measured.largest.Load(), int64(most))
	}},

	{"EveryEventHasAnIDThatLasts", func(b *bench) {
		cloud := message.NewMessage("another UUID on every try", nil)
		cloud.Metadata = message.Metadata{"ce_source": "shop", "ce_id": "7"}
		b.write(true, "orders", &message.Message{}, cloud)
		// Published twice: the first relay dies, as far as the table knows.
		b.relay()
		b.until("both are published", func() bool { return len(b.Broker.All()) == 2 })
		var made int
		for _, sent := range b.Broker.All() {
			id, source, err := dedup.Identity{}.Find(sent.Message)
			require.NoError(b, err)
			if source == dedup.SourceCloudEvent {
				require.Equal(b, "4:shop:7", id)
				continue
			}
			require.Equal(b, dedup.SourceMetadata, source)
			made++
		}
		require.Equal(b, 1, made)
	}},

	{"TracesGoOn", func(b *bench) {
		span := func(id byte) context.Context {
			return trace.ContextWithSpanContext(b.Context(), trace.NewSpanContext(trace.SpanContextConfig{
				TraceID: trace.TraceID{id}, SpanID: trace.SpanID{id}, TraceFlags: trace.FlagsSampled,
			}))
		}
		own, carried := event("own", ""), event("carried", "")
		own.SetContext(span(2))
		carried.Metadata.Set("traceparent", "theirs")
		publisher, err := outbox.NewPublisher(span(1), b.DB, b.Outbox)
		require.NoError(b, err)
		require.NoError(b, publisher.Publish("orders", own, carried, event("transaction", "")))
		require.Empty(b, own.Metadata.Get("traceparent"), "the caller's message")
		b.relay()
		b.expect("own", "carried", "transaction")
		for _, sent := range b.Broker.All() {
			want := map[string]string{
				"own": "00-02000000000000000000000000000000-0200000000000000-01", "carried": "theirs",
				"transaction": "00-01000000000000000000000000000000-0100000000000000-01",
			}[sent.Message.UUID]
			require.Equal(b, want, sent.Message.Metadata.Get("traceparent"))
		}
	}},

	{"BadMessagesLeaveTheTransactionUsable", func(b *bench) {
		tx, err := b.DB.BeginTx(b.Context(), nil)
		require.NoError(b, err)
		publisher, err := outbox.NewPublisher(b.Context(), tx, b.Outbox)
		require.NoError(b, err)
		for _, topic := range []string{"", strings.Repeat("x", 256), "a\x00b", "\xff"} {
			require.ErrorIs(b, publisher.Publish(topic, event("bad", "")), dedup.ErrBadOutput)
		}
		require.NoError(b, publisher.Publish("orders"))
		require.NoError(b, publisher.Publish("orders", event("good", "")))
		require.NoError(b, tx.Commit())
		b.relay()
		b.expect("good")
	}},

	{"SeveralTopicsInOneCall", func(b *bench) {
		tx, err := b.DB.BeginTx(b.Context(), nil)
		require.NoError(b, err)
		require.NoError(b, b.Outbox.Store(b.Context(), tx, nil))
		require.NoError(b, b.Outbox.Store(b.Context(), tx, []dedup.Output{
			{Topic: "a", Message: event("1", "k")}, {Topic: "b", Message: event("2", "k")}, {Topic: "a", Message: event("3", "k")},
		}))
		require.NoError(b, tx.Commit())
		b.relay()
		b.expect("1", "2", "3")
		byTopic := map[string][]string{}
		for _, sent := range b.Broker.Firsts() {
			byTopic[sent.Topic] = append(byTopic[sent.Topic], sent.Message.UUID)
		}
		require.Equal(b, map[string][]string{"a": {"1", "3"}, "b": {"2"}}, byTopic)
	}},
}
