package dedup

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
)

// stamp turns a handler's returned messages into outputs: their topic, their
// event ID (I7) and where they come from. What they have not set themselves they inherit.
// They are appended to room.
func (m *Middleware) stamp(room []Output, event *Event, inherited message.Metadata, messages []*message.Message) []Output {
	if len(messages) == 0 {
		return nil
	}
	outputs, now, chosen := room, publicationTime(), chosenIDs(messages)
	for i, msg := range messages {
		// Handlers hand the delivery's map on, or one to several outputs; what is written
		// below is of this output only.
		msg.Metadata = maps.Clone(msg.Metadata)
		outputs = append(outputs, Output{Topic: takeTopic(event, msg), Message: msg})
		id := take(msg, MetaOutputID)
		if id == "" {
			// Always derived, even if the message already has an event ID: a
			// handler that returns copies of its input would otherwise send two
			// events under one ID, and the next consumer would drop one.
			id = event.ID.Output(i)
			if chosen[id] {
				id = event.ID.Output(i + besideChosen)
			}
		}
		delete(msg.Metadata, MetaBrokerID)
		msg.Metadata.Set(MetaEventID, id)
		msg.Metadata.Set(MetaCause, event.EventID)
		msg.Metadata.Set(MetaPublishedAt, now)
		if msg.UUID == "" {
			msg.UUID = id
		}
		inherit(msg, inherited, MetaKey)
		inherit(msg, inherited, middleware.CorrelationIDMetadataKey)
	}
	return outputs
}

// noneMissing refuses a nil among the outputs: the slip of a handler, which must not end the
// process, nor pass for an output that was sent.
func noneMissing(outputs []*message.Message) error {
	if i := slices.Index(outputs, nil); i >= 0 {
		return fmt.Errorf("%w: number %d of %d that the handler returned is nil", ErrBadOutput, i, len(outputs))
	}
	return nil
}

// besideChosen are the numbers of outputs whose place stands in another one's ID: a codec
// has written it there, and a middleware has moved that output since.
const besideChosen = 1 << 40

// chosenIDs are the event IDs that outputs insist on; nil, as nearly always: there are none.
func chosenIDs(messages []*message.Message) (chosen map[string]bool) {
	for _, msg := range messages {
		id := msg.Metadata.Get(MetaOutputID)
		if id == "" {
			continue
		}
		if chosen == nil {
			chosen = make(map[string]bool, len(messages))
		}
		chosen[id] = true
	}
	return chosen
}

// publicationTime is the time now, to the millisecond. The text is kept for as long as
// it is right: a formatted time costs as much as the event's hash.
func publicationTime() string {
	now := time.Now()
	last := lastPublication.Load()
	if last == nil || last.millisecond != now.UnixMilli() {
		last = &publication{now.UnixMilli(), now.UTC().Format("2006-01-02T15:04:05.000Z07:00")}
		lastPublication.Store(last)
	}
	return last.text
}

type publication struct {
	millisecond int64
	text        string
}

var lastPublication atomic.Pointer[publication]

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
func inherit(output *message.Message, from message.Metadata, key string) {
	value := from.Get(key)
	if value == "" {
		return // most often: the output need not be asked
	}
	if _, set := output.Metadata[key]; !set {
		output.Metadata.Set(key, value)
	}
}

// common is what the outputs of a batch inherit: what all its messages have. The key of
// one would put outputs about another in its order.
func common(msgs []*message.Message) message.Metadata {
	shared := message.Metadata{}
	for _, key := range []string{MetaKey, middleware.CorrelationIDMetadataKey} {
		value := msgs[0].Metadata.Get(key)
		if !slices.ContainsFunc(msgs, func(msg *message.Message) bool { return msg.Metadata.Get(key) != value }) {
			shared[key] = value
		}
	}
	return shared
}

func take(msg *message.Message, key string) string {
	if msg.Metadata == nil {
		msg.Metadata = message.Metadata{}
	}
	value := msg.Metadata.Get(key)
	delete(msg.Metadata, key)
	return value
}
