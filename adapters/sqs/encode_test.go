package sqs

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	official "github.com/ThreeDotsLabs/watermill-aws/sqs"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/hapax-go/hapax/dedup"
)

func testQueue(config Config) *queue {
	return &queue{broker: &Broker{config: config}, topic: "orders", name: "orders", maxMessage: maxMessage}
}

func received(m encoded) *types.Message {
	return &types.Message{Body: &m.body, MessageAttributes: m.attributes, Attributes: map[string]string{}}
}

// Whatever a message has, SQS takes it, and it comes back.
func TestEveryMessageFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		name := rapid.OneOf(text, rapid.SampledFrom([]string{attrPacked, attrEncoding, official.UUIDAttribute, "AWS.x", ".a", "a..b"}))
		msg := message.NewMessage(text.Draw(t, "uuid"), []byte(text.Draw(t, "payload")))
		msg.Metadata = rapid.MapOfN(name, text, 0, 20).Draw(t, "metadata")
		delete(msg.Metadata, official.UUIDAttribute) // the official adapter's own
		m, err := testQueue(Config{Compress: rapid.Bool().Draw(t, "compress")}).encode(msg)
		require.NoError(t, err)
		require.NotEmpty(t, m.body)
		require.True(t, legalText(m.body))
		require.LessOrEqual(t, len(m.attributes), maxAttributes)
		for name, value := range m.attributes {
			require.True(t, name == attrPacked || name == attrEncoding || legalName(name), name)
			require.NotEmpty(t, *value.StringValue, name)
			require.True(t, legalText(*value.StringValue), name)
		}
		back, err := decode(received(m))
		require.NoError(t, err)
		require.Equal(t, msg.UUID, back.UUID)
		require.Equal(t, string(msg.Payload), string(back.Payload))
		require.Equal(t, msg.Metadata, back.Metadata)
	})
}

// What others can read stays readable: plain attributes, Hapax's own first.
func TestPacksOnlyWhatDoesNotFit(t *testing.T) {
	msg := message.NewMessage("uuid", []byte("text"))
	for i := range 20 {
		msg.Metadata.Set(fmt.Sprintf("name-%02d", i), "value")
	}
	msg.Metadata.Set(dedup.MetaEventID, "event")
	msg.Metadata.Set(dedup.MetaKey, "")
	m, err := testQueue(Config{}).encode(msg)
	require.NoError(t, err)
	require.Equal(t, "text", m.body)
	require.Len(t, m.attributes, maxAttributes)
	for _, name := range []string{official.UUIDAttribute, dedup.MetaEventID, attrPacked, "name-00", "name-06"} {
		require.Contains(t, m.attributes, name)
	}
	require.Contains(t, *m.attributes[attrPacked].StringValue, "hapax_key=")
}

func TestTooLarge(t *testing.T) {
	_, err := testQueue(Config{}).encode(message.NewMessage("uuid", []byte(strings.Repeat("x", maxMessage))))
	require.ErrorIs(t, err, dedup.ErrBadOutput)
	require.ErrorContains(t, err, "payload 262144")
	require.ErrorContains(t, err, "set compress")
	m, err := testQueue(Config{Compress: true}).encode(message.NewMessage("uuid", []byte(strings.Repeat("x", 2*maxMessage))))
	require.NoError(t, err)
	require.Less(t, m.size, 10_000)
	back, err := decode(received(m))
	require.NoError(t, err)
	require.Len(t, back.Payload, 2*maxMessage)
}

func TestForeignMessages(t *testing.T) {
	// Handed out as they are, with an error for the log: the codec decides.
	for _, encoding := range []string{encodingBase64, encodingGzip, "zstd"} {
		msg, err := decode(&types.Message{Body: aws.String("not encoded"), MessageAttributes: map[string]types.MessageAttributeValue{
			attrEncoding: {DataType: aws.String("String"), StringValue: aws.String(encoding)},
		}})
		require.Error(t, err, encoding)
		require.NotNil(t, msg)
	}
	msg, err := decode(&types.Message{})
	require.NoError(t, err)
	require.Empty(t, msg.UUID)
	_, _, err = dedup.Identity{}.Find(msg)
	require.ErrorIs(t, err, dedup.ErrNoID)
}

func TestFIFOIdentities(t *testing.T) {
	msg := message.NewMessage("uuid", nil)
	msg.Metadata.Set(dedup.MetaEventID, "event")
	id, group := fifoIDs(msg)
	require.Equal(t, "event", id)
	require.Equal(t, "event", group, "without a key an event is its own group")
	msg.Metadata.Set(dedup.MetaKey, "key")
	_, group = fifoIDs(msg)
	require.Equal(t, "key", group)

	for _, illegal := range []string{"with space", "ü", strings.Repeat("x", 129), "\x00"} {
		require.Regexp(t, `^[0-9a-f]{64}$`, legalID(illegal))
		require.Equal(t, legalID(illegal), legalID(illegal))
	}
	require.NotEqual(t, legalID("a b"), legalID("a  b"))

	// A message without any ID can be sent, and is not taken to have one.
	id, _ = fifoIDs(message.NewMessage("", nil))
	require.True(t, strings.HasPrefix(id, noID))
	m := &types.Message{Body: aws.String("hello"), Attributes: map[string]string{"MessageDeduplicationId": id}}
	require.Empty(t, brokerID(m))
	m.Attributes["MessageDeduplicationId"] = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	require.Empty(t, brokerID(m), "SQS made it of the content")
	m.Attributes["MessageDeduplicationId"] = "theirs"
	require.Equal(t, "theirs", brokerID(m))
}

// What is taken from a producer can be buried, with the longest reason there may be.
func TestLettersFit(t *testing.T) {
	queue := testQueue(Config{})
	largest := message.NewMessage("uuid", []byte(strings.Repeat("x", maxMessage-letterRoom-100)))
	_, err := queue.encode(largest)
	require.NoError(t, err)
	letter := largest.Copy()
	for name, size := range map[string]int{
		dedup.MetaDeadReason: 50, dedup.MetaDeadError: 2 << 10, dedup.MetaDeadStack: 4 << 10, dedup.MetaDeadTopic: 80, dedup.MetaDeadPosition: 120,
		dedup.MetaDeadService: 100, dedup.MetaDeadHandler: 100, dedup.MetaDeadAt: 30, dedup.MetaDeadAttempts: 2, dedup.MetaEventID: 200,
	} {
		letter.Metadata.Set(name, strings.Repeat("y", size))
	}
	m, err := queue.encode(letter)
	require.NoError(t, err)
	back, err := decode(received(m))
	require.NoError(t, err)
	require.Equal(t, largest.Payload, back.Payload)
	require.Len(t, back.Metadata.Get(dedup.MetaDeadReason), 50)

	largest.Payload = append(largest.Payload, make([]byte, 100)...)
	_, err = queue.encode(largest)
	require.ErrorIs(t, err, dedup.ErrBadOutput)
}

// A queue may take messages of up to 1 MiB, and another program send them: they can be
// buried too.
func TestLettersOfLargerMessagesFit(t *testing.T) {
	queue := testQueue(Config{})
	letter := message.NewMessage("uuid", []byte(rand.Text()))
	for len(letter.Payload) < 2*maxMessage { // what does not shrink much
		letter.Payload = append(letter.Payload, rand.Text()...)
	}
	_, err := queue.encode(letter)
	require.ErrorIs(t, err, dedup.ErrBadOutput)
	letter.Metadata.Set(dedup.MetaDeadReason, "handed out 20 times and never acknowledged")
	m, err := queue.encode(letter)
	require.NoError(t, err)
	back, err := decode(received(m))
	require.NoError(t, err)
	require.Equal(t, letter.Payload, back.Payload)
}

// SQS drops what has the deduplication ID of another message: two letters of one event
// have two, and a letter that is sent again has its own.
func TestLettersAreNotDuplicates(t *testing.T) {
	queue := testQueue(Config{})
	queue.fifo = true
	deduplication := func(eventID, position string) string {
		msg := message.NewMessage("", []byte("x"))
		if eventID != "" {
			msg.Metadata.Set(dedup.MetaEventID, eventID)
		}
		msg.Metadata.Set(dedup.MetaDeadReason, "conflict")
		msg.Metadata.Set(dedup.MetaDeadPosition, position)
		m, err := queue.encode(msg)
		require.NoError(t, err)
		return m.deduplication
	}
	for _, eventID := range []string{"order-1", ""} {
		require.NotEqual(t, deduplication(eventID, "orders@1"), deduplication(eventID, "orders@2"))
		require.Equal(t, deduplication(eventID, "orders@1"), deduplication(eventID, "orders@1"))
	}
}

// The official format takes the UUID for text without looking.
func TestBinaryUUID(t *testing.T) {
	msg, err := decode(&types.Message{Body: aws.String("x"), MessageAttributes: map[string]types.MessageAttributeValue{
		official.UUIDAttribute: {DataType: aws.String("Binary"), BinaryValue: []byte("uuid")},
	}})
	require.NoError(t, err)
	require.Equal(t, "uuid", msg.UUID)
}

// The deduplication ID that Hapax makes itself identifies nothing: what it was made of
// does, as far as the config says so.
func TestOwnDeduplicationIDsAreNoIdentities(t *testing.T) {
	queue := testQueue(Config{})
	queue.fifo = true
	for name, metadata := range map[string]message.Metadata{
		"event":  {},
		"letter": {dedup.MetaDeadReason: "handed out", dedup.MetaDeadPosition: "orders@1"},
		"replay": {dedup.MetaReplayedAt: "2026-01-02T03:04:05Z"},
	} {
		for _, uuid := range []string{"", "uuid", "a long one with spaces"} {
			msg := message.NewMessage(uuid, []byte(`{"id":"order-1"}`))
			msg.Metadata = metadata
			m, err := queue.encode(msg)
			require.NoError(t, err)
			raw := received(m)
			raw.Attributes["MessageDeduplicationId"] = m.deduplication
			back, err := decode(raw)
			require.NoError(t, err)
			for _, identity := range []dedup.Identity{{Pointer: "/id", IgnoreUUID: true}, {Pointer: "/id"}} {
				want, from, err := identity.Find(msg)
				require.NoError(t, err)
				id, source, err := identity.Find(back)
				require.NoError(t, err)
				require.Equal(t, from, source, "%s with UUID %q", name, uuid)
				require.Equal(t, want, id, "%s with UUID %q", name, uuid)
			}
		}
	}
}
