package rabbitmq_test

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
)

// publish sends everything, each send until it is confirmed.
func (s scenario) publish(broker *rabbitmq.Broker, topic string, sent *fault.Sent) error {
	publisher := broker.Publisher()
	var batch []*message.Message
	var events []fault.Event
	flush := func() error {
		for deadline := time.Now().Add(2 * time.Minute); ; {
			err := publisher.Publish(topic, batch...)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return err
			}
		}
		for _, event := range events {
			sent.Record(event, fault.SendOK)
		}
		batch, events = nil, nil
		return nil
	}
	add := func(send fault.Send) error {
		payload, err := json.Marshal(send.Event)
		if err != nil {
			return err
		}
		number := strconv.Itoa(send.Copy)
		msg := message.NewMessage(send.ID+"/"+number, payload)
		msg.Metadata = message.Metadata{dedup.MetaEventID: send.ID, dedup.MetaKey: send.Key, metaCopy: number}
		batch, events = append(batch, msg), append(events, send.Event)
		if len(batch) < 50 {
			return nil
		}
		return flush()
	}
	rounds, each := 1, max(s.copies, 1)
	if s.later {
		rounds, each = each, 1
	}
	for round := range rounds {
		for send := range s.workload.Sends() {
			first := send.Copy + round
			for copied := range each {
				send.Copy = first + copied
				if err := add(send); err != nil {
					return err
				}
			}
		}
	}
	if len(batch) > 0 {
		return flush()
	}
	return nil
}
