package sqs

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	official "github.com/ThreeDotsLabs/watermill-aws/sqs"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/hapax-go/hapax/dedup"
)

// wire is the official adapter's format: the payload is the body, each metadata
// entry and the UUID a String attribute.
var wire official.DefaultMarshalerUnmarshaler

const (
	// attrPacked holds the metadata that SQS does not take as attributes: more
	// than ten, empty values, names or values with other characters. It is
	// encoded like the query of a URL, which takes any byte.
	attrPacked = "hapax_metadata"
	// attrEncoding says how the body stands for the payload; see body.go.
	attrEncoding = "hapax_encoding"

	maxAttributes = 10
	// maxMessage is the largest message that every queue can take, in bytes:
	// body, and names, types and values of attributes.
	maxMessage = 256 << 10
	// maxLetter is the largest that some queues take. Another program's message can be
	// as large, and is to be buried all the same; the letters' queue has the last word.
	maxLetter = 1 << 20
)

// encoded is a message as SQS takes it.
type encoded struct {
	body       string
	attributes map[string]types.MessageAttributeValue
	size       int
	// Of FIFO queues.
	deduplication, group string
}

// letterRoom is what a message must leave free for the reason, place and time that a
// dead letter adds: one that fills its queue's limit could never be buried, and would
// hold its group up until SQS drops it.
const letterRoom = 4 << 10

// encode turns a message into what is sent to a queue.
func (q *queue) encode(msg *message.Message) (m encoded, err error) {
	limit, letter := q.maxMessage, msg.Metadata.Get(dedup.MetaDeadReason) != ""
	if !letter && limit > 8*letterRoom {
		limit -= letterRoom
	}
	if m, err = q.pack(msg, q.broker.config.Compress); err != nil {
		return m, err
	}
	if m.size > limit && letter {
		if m, err = q.pack(shortened(msg), true); err != nil {
			return m, err
		}
		limit = max(limit, maxLetter)
	}
	if m.size > limit {
		hint := "send a reference to the data"
		if !q.broker.config.Compress {
			hint += ", or set compress"
		}
		return m, fmt.Errorf("%w: message %s to %q has %d bytes as SQS counts them (payload %d), the limit of queue %q, with room for a dead letter's reason, is %d: %s",
			dedup.ErrBadOutput, msg.UUID, q.topic, m.size, len(msg.Payload), q.name, limit, hint)
	}
	if q.fifo {
		m.deduplication, m.group = fifoIDs(msg)
	}
	return m, nil
}

// shortened is a letter without what only explains its reason further.
func shortened(letter *message.Message) *message.Message {
	letter = letter.Copy()
	delete(letter.Metadata, dedup.MetaDeadStack)
	delete(letter.Metadata, dedup.MetaDeadError)
	return letter
}

// pack makes body and attributes, and counts them as SQS does.
func (q *queue) pack(msg *message.Message, compress bool) (encoded, error) {
	body, encoding, err := encodeBody(msg.Payload, compress)
	if err != nil {
		return encoded{}, fmt.Errorf("%w: compress message %s to %q: %w", dedup.ErrBadOutput, msg.UUID, q.topic, err)
	}
	m := encoded{body: body, attributes: attributes(msg, encoding), size: len(body)}
	for name, value := range m.attributes {
		m.size += len(name) + len(*value.DataType) + len(*value.StringValue)
	}
	return m, nil
}

// attributes places the UUID and the metadata: as attributes as far as SQS takes
// them, Hapax's own first, and the rest packed into one.
func attributes(msg *message.Message, encoding string) map[string]types.MessageAttributeValue {
	room := maxAttributes
	result := make(map[string]types.MessageAttributeValue, maxAttributes)
	set := func(name, value string) {
		result[name] = types.MessageAttributeValue{DataType: aws.String(official.AWSStringDataType), StringValue: aws.String(value)}
	}
	if encoding != "" {
		set(attrEncoding, encoding)
		room--
	}
	var fit []string
	packed := url.Values{}
	value := func(name string) string {
		if name == official.UUIDAttribute {
			return msg.UUID
		}
		return msg.Metadata[name]
	}
	consider := func(name string) {
		if legalName(name) && value(name) != "" && legalText(value(name)) {
			fit = append(fit, name)
		} else {
			packed.Set(name, value(name))
		}
	}
	if msg.UUID != "" {
		consider(official.UUIDAttribute)
	}
	for name := range msg.Metadata {
		if name != official.UUIDAttribute {
			consider(name)
		}
	}
	if len(packed) > 0 || len(fit) > room {
		room--
		slices.SortFunc(fit, byImportance)
		for len(fit) > room {
			last := fit[len(fit)-1]
			packed.Set(last, value(last))
			fit = fit[:len(fit)-1]
		}
		set(attrPacked, packed.Encode())
	}
	for _, name := range fit {
		set(name, value(name))
	}
	return result
}

// byImportance puts first what other programs can use most.
func byImportance(a, b string) int {
	rank := func(name string) string {
		switch {
		case name == official.UUIDAttribute:
			return "0"
		case strings.HasPrefix(name, "hapax_"), strings.HasPrefix(name, "ce_"):
			return "1" + name
		}
		return "2" + name
	}
	return strings.Compare(rank(a), rank(b))
}

// legalName follows the rules for names of attributes. Hapax's own two are packed
// when somebody uses them, so that they are not taken for what they are not.
func legalName(name string) bool {
	lower := strings.ToLower(name)
	switch {
	case name == "" || len(name) > 256, name == attrPacked, name == attrEncoding,
		strings.HasPrefix(lower, "aws."), strings.HasPrefix(lower, "amazon."),
		strings.HasPrefix(name, "."), strings.HasSuffix(name, "."), strings.Contains(name, ".."):
		return false
	}
	for i := range len(name) {
		if b := name[i]; !plain(b) && b != '_' && b != '.' {
			return false
		}
	}
	return true
}

// dropLabels takes from the attributes' types what other programs may put behind them
// ("Number.java.lang.Long"): the official format would leave such attributes out.
func dropLabels(attributes map[string]types.MessageAttributeValue) {
	for name, value := range attributes {
		if kind, _, labelled := strings.Cut(aws.ToString(value.DataType), "."); labelled {
			value.DataType = &kind
			attributes[name] = value
		}
	}
}

// decode turns a received message into Watermill's. Messages of other programs
// are messages too: what they lack, the identity and the codec find missing, and
// dead-letter them with the reason.
func decode(m *types.Message) (*message.Message, error) {
	dropLabels(m.MessageAttributes)
	if uuid, found := m.MessageAttributes[official.UUIDAttribute]; found && uuid.StringValue == nil {
		uuid.StringValue = aws.String(string(uuid.BinaryValue)) // the official format panics
		m.MessageAttributes[official.UUIDAttribute] = uuid
	}
	msg, err := wire.Unmarshal(m)
	if err != nil {
		return message.NewMessage("", []byte(aws.ToString(m.Body))), err
	}
	encoding := msg.Metadata[attrEncoding]
	delete(msg.Metadata, attrEncoding)
	if query, found := msg.Metadata[attrPacked]; found {
		packed, parseErr := url.ParseQuery(query)
		if parseErr != nil {
			err = fmt.Errorf("read attribute %s: %w", attrPacked, parseErr)
		} else {
			delete(msg.Metadata, attrPacked)
			unpacked := make(message.Metadata, len(packed))
			for name := range packed {
				unpacked[name] = packed.Get(name)
			}
			if uuid, found := unpacked[official.UUIDAttribute]; found {
				msg.UUID = uuid
				delete(unpacked, official.UUIDAttribute)
			}
			maps.Copy(msg.Metadata, unpacked)
		}
	}
	payload, bodyErr := decodeBody(string(msg.Payload), encoding)
	if bodyErr != nil {
		return msg, fmt.Errorf("decode body: %w", bodyErr)
	}
	msg.Payload = payload
	if msg.Metadata[dedup.MetaPublishedAt] == "" {
		sent, parseErr := strconv.ParseInt(m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64)
		if parseErr == nil {
			msg.Metadata[dedup.MetaPublishedAt] = time.UnixMilli(sent).UTC().Format(time.RFC3339Nano)
		}
	}
	if id := brokerID(m); id != "" && msg.Metadata[dedup.MetaEventID] == "" {
		// What Hapax made itself says no more than what it was made of, of which the
		// config may pass over some.
		if own, _ := fifoIDs(msg); id != own {
			msg.Metadata[dedup.MetaBrokerID] = id
		}
	}
	return msg, err
}
