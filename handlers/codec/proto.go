package codec

import (
	"fmt"
	"reflect"

	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/protobuf/proto"
)

// Proto reads and writes protobuf in its binary form. Values are pointers to
// generated messages: *pb.Order, not pb.Order.
var Proto Codec = protoCodec{}

type protoCodec struct{}

var protoMessage = reflect.TypeFor[proto.Message]()

func (protoCodec) Name() string        { return "protobuf" }
func (protoCodec) ContentType() string { return "application/protobuf" }

func (protoCodec) Check(t reflect.Type) error {
	switch {
	case t.Kind() == reflect.Pointer && t.Implements(protoMessage):
		return nil
	case reflect.PointerTo(t).Implements(protoMessage):
		return fmt.Errorf("protobuf messages are passed by pointer: write *%s instead of %s", t, t)
	default:
		return fmt.Errorf("%s is not a protobuf message: take a pointer to a generated message, or another codec", t)
	}
}

func (protoCodec) Marshal(value any, _ Output) ([]byte, map[string]string, error) {
	msg, ok := value.(proto.Message)
	if !ok {
		return nil, nil, fmt.Errorf("%T is not a protobuf message", value)
	}
	// Maps come in random order otherwise: a handler that runs again would send
	// the same event ID with other bytes, a conflict for the next consumer.
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
	return payload, nil, err
}

func (protoCodec) Unmarshal(msg *message.Message, into any) error {
	target, ok := into.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is not a protobuf message", into)
	}
	return proto.Unmarshal(msg.Payload, target)
}
