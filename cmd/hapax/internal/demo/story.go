package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strconv"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
	"github.com/hapax-go/hapax/outbox/inbox"
)

const (
	topicOrders   = "orders"
	topicShipping = "shipping.requested"
	metaCopy      = "demo_copy" // tells a producer's repetition from a redelivery
)

// Shipment is what fulfilment asks shipping for.
type Shipment struct {
	OrderID string `json:"order_id"`
	Key     string `json:"key"`
	Seq     int64  `json:"seq"`
}

func (s Shipment) effect(consumer string) fault.Effect {
	return fault.Effect{ID: s.OrderID, Key: s.Key, Seq: s.Seq, Consumer: consumer}
}

// Fulfil is the first stage: an order becomes a shipment request. Both lanes run
// this function.
func Fulfil(_ context.Context, order fault.Event) (Shipment, error) {
	return Shipment{OrderID: order.ID, Key: order.Key, Seq: order.Seq}, nil
}

// ship is the second stage of the Hapax lane: a row in the transaction in which
// the mark commits.
func ship(broker broker, consumer string) func(context.Context, Shipment) error {
	return func(ctx context.Context, shipment Shipment) error {
		tx, err := inbox.Tx(ctx)
		if err != nil {
			return err
		}
		if broker.insert != nil {
			return broker.insert(ctx, tx, shipment.effect(consumer))
		}
		return effects.Insert(ctx, tx, shipment.effect(consumer))
	}
}

// orderMessage is a producer's send. Its event ID is the same on a retry.
func orderMessage(send fault.Send) (*message.Message, error) {
	payload, err := json.Marshal(send.Event)
	if err != nil {
		return nil, err
	}
	msg := message.NewMessage(fmt.Sprintf("%s/%d", send.ID, send.Copy), payload)
	msg.Metadata.Set(dedup.MetaEventID, send.ID)
	msg.Metadata.Set(dedup.MetaKey, send.Key)
	msg.Metadata.Set(metaCopy, strconv.Itoa(send.Copy))
	return msg, nil
}

// recordDeliveries is a Router middleware that notes every start of a handler.
func recordDeliveries(db effects.Execer, consumer string) message.HandlerMiddleware {
	return func(handle message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			delivery, err := deliveryOf(msg, consumer)
			if err != nil {
				return nil, err
			}
			if err := effects.InsertDelivery(msg.Context(), db, delivery); err != nil {
				return nil, err
			}
			return handle(msg)
		}
	}
}

// deliveryOf names an event by its stage. On the second stage a copy is told by
// its UUID, which a plain consumer draws anew when it publishes again.
func deliveryOf(msg *message.Message, consumer string) (fault.Delivery, error) {
	delivery := fault.Delivery{Consumer: consumer}
	if attached := adapters.DeliveryFrom(msg.Context()); attached != nil {
		delivery.Attempt = attached.Attempt
	}
	if message.SubscribeTopicFromCtx(msg.Context()) == topicOrders {
		delivery.ID = topicOrders + "/" + msg.Metadata.Get(dedup.MetaEventID)
		var err error
		delivery.Copy, err = strconv.Atoi(msg.Metadata.Get(metaCopy))
		return delivery, err
	}
	var shipment Shipment
	if err := json.Unmarshal(msg.Payload, &shipment); err != nil {
		return delivery, err
	}
	delivery.ID = topicShipping + "/" + shipment.OrderID
	delivery.Copy = int(crc32.ChecksumIEEE([]byte(msg.UUID)))
	return delivery, nil
}
