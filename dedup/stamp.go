package dedup

import (
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
)

// stamp turns a handler's returned messages into outputs: their topic, their
// event ID (I7) and where they come from.
func (m *Middleware) stamp(event *Event, messages []*message.Message) []Output {
	if len(messages) == 0 {
		return nil
	}
	outputs := make([]Output, len(messages))
	now := time.Now().UTC().Format(time.RFC3339Nano)
	for i, msg := range messages {
		outputs[i] = Output{Topic: takeTopic(event, msg), Message: msg}
		id := take(msg, MetaOutputID)
		if id == "" {
			// Always derived, even if the message already has an event ID: a
			// handler that returns copies of its input would otherwise send two
			// events under one ID, and the next consumer would drop one.
			id = OutputID(event.Scope, event.EventID, i)
		}
		msg.Metadata.Set(MetaEventID, id)
		msg.Metadata.Set(MetaCause, event.EventID)
		msg.Metadata.Set(MetaPublishedAt, now)
		delete(msg.Metadata, MetaBrokerID)
		if msg.UUID == "" {
			msg.UUID = id
		}
		inherit(msg, event.Message, MetaKey)
		inherit(msg, event.Message, middleware.CorrelationIDMetadataKey)
	}
	return outputs
}

// takeTopic is the topic the handler chose, else the Router's publish topic.
func takeTopic(event *Event, msg *message.Message) string {
	if topic := take(msg, MetaTopic); topic != "" {
		return topic
	}
	return message.PublishTopicFromCtx(event.Message.Context())
}

// inherit passes metadata of the event on to an output that has none of its own:
// the key, so that what was in order stays in order, and the correlation ID. An
// output that is to have no key sets an empty one.
func inherit(output, input *message.Message, key string) {
	if _, set := output.Metadata[key]; !set && input.Metadata.Get(key) != "" {
		output.Metadata.Set(key, input.Metadata.Get(key))
	}
}

func take(msg *message.Message, key string) string {
	if msg.Metadata == nil {
		msg.Metadata = message.Metadata{}
	}
	value := msg.Metadata.Get(key)
	delete(msg.Metadata, key)
	return value
}
