package dedup_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
)

func TestIdentityTakesTheFirstPlaceThatHasAnID(t *testing.T) {
	msg := message.NewMessage("uuid", []byte(`{"order":{"id":"from-payload","n":12345678901234567890}}`))
	msg.Metadata = message.Metadata{
		dedup.MetaEventID: "own", "ce_id": "7", "ce_source": "/shop", dedup.MetaBrokerID: "broker",
	}
	identity := dedup.Identity{Pointer: "/order/id", ContentHash: true}
	expectID := func(id string, source dedup.Source) {
		t.Helper()
		found, where, err := identity.Find(msg)
		require.NoError(t, err)
		require.Equal(t, source, where)
		if id != "" {
			require.Equal(t, id, found)
		}
	}
	expectID("own", dedup.SourceMetadata)
	delete(msg.Metadata, dedup.MetaEventID)
	expectID("5:/shop:7", dedup.SourceCloudEvent)
	delete(msg.Metadata, "ce_id")
	expectID("broker", dedup.SourceBroker)
	delete(msg.Metadata, dedup.MetaBrokerID)
	expectID("uuid", dedup.SourceUUID)
	identity.IgnoreUUID = true
	expectID("from-payload", dedup.SourcePointer)
	identity.IgnoreUUID = false
	msg.UUID = ""
	expectID("from-payload", dedup.SourcePointer)
	identity.Pointer = "/order/n"
	expectID("12345678901234567890", dedup.SourcePointer) // exact, not 1.2345678901234567e+19
	for _, pointer := range []string{"", "/order/none", "/order"} {
		identity.Pointer = pointer
		expectID("", dedup.SourceContent)
	}
}

// Two sources and IDs that concatenate to the same text are two events.
func TestCloudEventsWithAmbiguousPartsStayApart(t *testing.T) {
	find := func(source, id string) string {
		msg := message.NewMessage("", nil)
		msg.Metadata = message.Metadata{"ce_source": source, "ce_id": id}
		found, _, err := dedup.Identity{}.Find(msg)
		require.NoError(t, err)
		return found
	}
	require.NotEqual(t, find("a:b", "c"), find("a", "b:c"))
}

// In the structured mode source and ID stand in the payload; they win over the
// UUID, which a producer may draw anew for each send.
func TestStructuredCloudEvents(t *testing.T) {
	find := func(contentType, payload string) (string, dedup.Source) {
		msg := message.NewMessage("uuid", []byte(payload))
		msg.Metadata = message.Metadata{"content-type": contentType}
		found, source, err := dedup.Identity{}.Find(msg)
		require.NoError(t, err)
		return found, source
	}
	id, source := find("application/cloudevents+json; charset=utf-8", `{"specversion":"1.0","source":"/shop","id":"7","data":{}}`)
	require.Equal(t, dedup.SourceCloudEvent, source)
	require.Equal(t, "5:/shop:7", id, "as in the binary mode")
	id, _ = find("Application/CloudEvents+JSON", `{"specversion":"1.0","source":"/shop","id":"7","data":{}}`)
	require.Equal(t, "5:/shop:7", id, "media types have no case")
	id, source = find("application/json", `{"source":"/shop","id":"7"}`)
	require.Equal(t, dedup.SourceUUID, source)
	require.Equal(t, "uuid", id)
	_, source = find("application/vnd.example.customer.v1+json", `{"source":"/shop","id":"7"}`)
	require.Equal(t, dedup.SourceUUID, source, "an ID in another type's payload may be that of a customer")
	_, source = find("application/cloudevents+json", `not an envelope`)
	require.Equal(t, dedup.SourceUUID, source)
}

func TestContentHashIsOfCanonicalJSON(t *testing.T) {
	hash := func(payload string) string {
		id, _, err := dedup.Identity{ContentHash: true}.Find(message.NewMessage("", []byte(payload)))
		require.NoError(t, err)
		return id
	}
	require.Equal(t, hash(`{"a":1,"b":2}`), hash(`{ "b": 2, "a": 1.0 }`))
	require.NotEqual(t, hash(`{"a":1}`), hash(`{"a":2}`))
	require.NotEqual(t, hash("not json 1"), hash("not json 2"))

	// RFC 8785 reads numbers as float64: those that it would round stay as they are written.
	require.NotEqual(t, hash(`{"id":9007199254740993}`), hash(`{"id":9007199254740992}`))
	require.NotEqual(t, hash(`{"rate":0.10000000000000000001}`), hash(`{"rate":0.1}`))
	require.NotEqual(t, hash(`{"p":1e-400}`), hash(`{"p":2e-400}`))
	require.Equal(t, hash(`{"id":9007199254740993,"b":[{"x":1}]}`), hash(`{ "b": [ {"x": 1} ], "id": 9007199254740993 }`))
	require.Equal(t, hash(`{"a":1e3}`), hash(`{"a":1000}`))
	require.NotEqual(t, hash(`{"id":9007199254740993,"id":1}`), hash(`{"id":1}`))
}

func TestMissingIDSaysWhereItWasLookedFor(t *testing.T) {
	for name, test := range map[string]struct {
		identity dedup.Identity
		payload  string
		message  string
	}{
		"nothing configured": {dedup.Identity{}, `{}`,
			`event has no ID: looked for metadata hapax_event_id, ce_id, the broker's own field, the UUID; set one where the event is made, or dedup.id.pointer in the config`},
		"pointer finds nothing": {dedup.Identity{Pointer: "/id"}, `{}`,
			`event has no ID: read /id: object has no key "id": JSON pointer error`},
		"pointer finds an object": {dedup.Identity{Pointer: "/id"}, `{"id":{}}`,
			`event has no ID: /id is a map[string]interface {}, expected a string or a number`},
		"pointer finds true": {dedup.Identity{Pointer: "/paid"}, `{"paid":true}`,
			`event has no ID: /paid is a bool, expected a string or a number`},
		"payload is not JSON": {dedup.Identity{Pointer: "/id"}, `<id/>`,
			`event has no ID: read /id: payload is not JSON: invalid character '<' looking for beginning of value`},
		"empty ID in the payload": {dedup.Identity{Pointer: "/id", IgnoreUUID: true}, `{"id":""}`,
			`event has no ID: looked for metadata hapax_event_id, ce_id, the broker's own field, /id in the payload; set one where the event is made, or dedup.id.pointer in the config`},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := test.identity.Find(message.NewMessage("", []byte(test.payload)))
			require.ErrorIs(t, err, dedup.ErrNoID)
			require.EqualError(t, err, test.message)
		})
	}
}

func TestIDsOfDifferentPartsDiffer(t *testing.T) {
	id := func(service, handler, event string) dedup.ID {
		return dedup.NewID(dedup.Scope{Service: service, Handler: handler}, event)
	}
	require.NotEqual(t, id("a", "bc", "d"), id("ab", "c", "d"))
	require.NotEqual(t, id("a", "b", "cd"), id("a", "bc", "d"))
	require.Equal(t, id("a", "b", "c"), id("a", "b", "c"))
	require.NotEqual(t, dedup.NewID(scope, "1").Output(0), dedup.NewID(scope, "1").Output(1))
	require.NotEqual(t, dedup.NewID(scope, "1").Output(0), dedup.NewID(scope, "2").Output(0))
}

// Stores keep IDs for a window and longer: another encoding would make every event
// new.
func TestIDsNeverChange(t *testing.T) {
	require.Equal(t, "c52f4cc5c544a3d3e286b43c33ab40af", dedup.NewID(scope, "order-17").String())
	require.Equal(t, "055dc8bb9849a92da1645f9d97e8e262", dedup.NewID(scope, "order-17").Output(3))
}
