package handlers_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/handlers"
)

type parcel struct {
	ID   string `json:"id"`
	Note string `json:"note"`
}

// What a typed handler costs over a raw one:
// "by hand" is the same work written into a Watermill handler.
func BenchmarkTyped(b *testing.B) {
	consume := func(context.Context, parcel) error { return nil }
	transform := func(_ context.Context, p parcel) (shipment, error) { return shipment{p.ID}, nil }
	small := func(context.Context, []byte) error { return nil }
	byHand := func(msg *message.Message) ([]*message.Message, error) {
		var p parcel
		if err := json.Unmarshal(msg.Payload, &p); err != nil {
			return nil, err
		}
		payload, err := json.Marshal(shipment{p.ID})
		return message.Messages{message.NewMessage("", payload)}, err
	}
	payload := []byte(`{"id":"o-1","note":"` + strings.Repeat("x", 10) + `"}`)
	for _, test := range []struct {
		name string
		fn   any
	}{
		{"raw watermill", func(*message.Message) ([]*message.Message, error) { return nil, nil }},
		{"bytes generic", handlers.Consume(small)},
		{"bytes reflected", small},
		{"json consume generic", handlers.Consume(consume)},
		{"json consume reflected", consume},
		{"json transform by hand", byHand},
		{"json transform generic", handlers.Transform(transform)},
		{"json transform reflected", transform},
	} {
		b.Run(test.name, func(b *testing.B) {
			handler, err := handlers.Adapt(test.fn, handlers.Options{})
			if err != nil {
				b.Fatal(err)
			}
			msg := message.NewMessage("event-1", payload)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := handler.Single(msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What the middlewares cost when nothing fails.
func BenchmarkChain(b *testing.B) {
	handler, err := handlers.Adapt(func(*message.Message) error { return nil }, handlers.Options{})
	if err != nil {
		b.Fatal(err)
	}
	retried := handlers.Retry{}.Middleware(handlers.Recover(handler.Single))
	for name, handle := range map[string]message.HandlerFunc{
		"handler": handler.Single, "recover": handlers.Recover(handler.Single),
		"retry, recover": retried, "dead letter, retry, recover": handlers.DeadLetter{Topic: "orders"}.Middleware(retried),
	} {
		b.Run(name, func(b *testing.B) {
			msg := message.NewMessage("event-1", nil)
			for _, name := range []string{"a", "b", "c", "d"} {
				msg.Metadata.Set(name, name)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := handle(msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
