package codec_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/hapax-go/hapax/handlers/codec"
)

type order struct {
	ID    string `json:"id"`
	Cents int    `json:"cents"`
}

type label string

func output(id string) codec.Output {
	return codec.Output{ID: func() (string, error) { return id, nil }}
}

func received(payload string, metadata ...string) *message.Message {
	msg := message.NewMessage("uuid", []byte(payload))
	for i := 0; i < len(metadata); i += 2 {
		msg.Metadata.Set(metadata[i], metadata[i+1])
	}
	return msg
}

func TestRoundTrip(t *testing.T) {
	events := codec.CloudEvents{Source: "/shop"}
	structured := codec.CloudEvents{Source: "/shop", Structured: true}
	rawEvents := codec.CloudEvents{Source: "/shop", Structured: true, Data: codec.Raw}
	for name, test := range map[string]struct {
		codec codec.Codec
		value any
		into  any
	}{
		"json":                   {codec.JSON, order{"a", 5}, new(order)},
		"strict json":            {codec.StrictJSON, order{"a", 5}, new(order)},
		"raw bytes":              {codec.Raw, []byte{0, 255, 7}, new([]byte)},
		"raw string":             {codec.Raw, "plain", new(string)},
		"raw string type":        {codec.Raw, label("x"), new(label)},
		"raw bytes type":         {codec.Raw, json.RawMessage(`{}`), new(json.RawMessage)},
		"cloudevents binary":     {events, order{"a", 5}, new(order)},
		"cloudevents structured": {structured, order{"a", 5}, new(order)},
		"cloudevents raw data":   {rawEvents, []byte{0, 255, 7}, new([]byte)},
	} {
		t.Run(name, func(t *testing.T) {
			payload, metadata, err := test.codec.Marshal(test.value, output("id-1"))
			require.NoError(t, err)
			msg := message.NewMessage("", payload)
			msg.Metadata = metadata
			require.NoError(t, test.codec.Unmarshal(msg, test.into))
			require.Equal(t, test.value, reflect.ValueOf(test.into).Elem().Interface())
		})
	}
}

func TestProto(t *testing.T) {
	value, err := structpb.NewStruct(map[string]any{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5})
	require.NoError(t, err)
	first, _, err := codec.Proto.Marshal(value, output(""))
	require.NoError(t, err)
	for range 20 { // a map: its order is random unless marshalled deterministically
		again, _, err := codec.Proto.Marshal(value, output(""))
		require.NoError(t, err)
		require.Equal(t, first, again, "the same value must become the same bytes")
	}
	into := new(structpb.Struct)
	require.NoError(t, codec.Proto.Unmarshal(received(string(first)), into))
	require.Equal(t, value.AsMap(), into.AsMap())

	require.Error(t, codec.Proto.Unmarshal(received("\xff"), into))
	require.ErrorContains(t, codec.Proto.Unmarshal(received(""), new(order)), "is not a protobuf message")
	_, _, err = codec.Proto.Marshal(order{}, output(""))
	require.ErrorContains(t, err, "codec_test.order is not a protobuf message")
}

func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		codec   codec.Codec
		payload string
		problem string
	}{
		"empty":                 {codec.JSON, ``, "unexpected end"},
		"trailing":              {codec.JSON, `{} {}`, "after top-level value"},
		"strict trailing":       {codec.StrictJSON, `{"id":"a"} {}`, "data after the value, at byte"},
		"strict trailing junk":  {codec.StrictJSON, `{"id":"a"}]`, "data after the value, at byte"},
		"strict unknown field":  {codec.StrictJSON, `{"ids":"a"}`, `unknown field "ids"`},
		"strict null":           {codec.StrictJSON, " null\n", "payload is null, expected a value"},
		"strict empty":          {codec.StrictJSON, ``, "EOF"},
		"raw into struct":       {codec.Raw, `x`, "raw hands over []byte or string, not codec_test.order"},
		"structured not json":   {structured, `x`, "invalid character"},
		"structured null":       {structured, `null`, "no specversion"},
		"structured version":    {structured, `{"specversion":"0.3","id":"1","source":"/a","type":"T","data":{}}`, `specversion is "0.3", expected "1.0"`},
		"structured no id":      {structured, `{"specversion":"1.0","source":"/a","type":"T","data":{}}`, "id: MUST be a non-empty string"},
		"structured no data":    {structured, `{"specversion":"1.0","id":"1","source":"/a","type":"T"}`, "event has no data"},
		"structured bad base64": {structured, `{"data_base64":1,"specversion":"1.0","id":"1","source":"/a","type":"T"}`, "an attribute has the wrong type"},
		"structured trailing":   {structured, `{"specversion":"1.0","id":"1","source":"/a","type":"T","data":{}} x`, "after top-level value"},
		"binary no version":     {codec.CloudEvents{}, `{}`, `ce_specversion is "", expected "1.0"`},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, test.codec.Unmarshal(received(test.payload), new(order)), test.problem)
		})
	}
	var got order
	require.NoError(t, codec.JSON.Unmarshal(received(`{"id":"a","new":1}`), &got), "lenient: producers may add fields")
	require.Equal(t, order{ID: "a"}, got)
}

var structured = codec.CloudEvents{Structured: true}

func TestCheck(t *testing.T) {
	for name, test := range map[string]struct {
		codec   codec.Codec
		value   reflect.Type
		problem string // empty: accepted
	}{
		"json struct":     {codec.JSON, reflect.TypeFor[order](), ""},
		"json any":        {codec.JSON, reflect.TypeFor[any](), ""},
		"json interface":  {codec.JSON, reflect.TypeFor[error](), "cannot read into the interface error"},
		"json func":       {codec.JSON, reflect.TypeFor[func()](), "has no form for func()"},
		"json proto":      {codec.JSON, reflect.TypeFor[wrapperspb.StringValue](), "write *wrapperspb.StringValue instead"},
		"proto":           {codec.Proto, reflect.TypeFor[*wrapperspb.StringValue](), ""},
		"proto by value":  {codec.Proto, reflect.TypeFor[wrapperspb.StringValue](), "write *wrapperspb.StringValue instead"},
		"proto struct":    {codec.Proto, reflect.TypeFor[order](), "codec_test.order is not a protobuf message"},
		"raw":             {codec.Raw, reflect.TypeFor[label](), ""},
		"raw struct":      {codec.Raw, reflect.TypeFor[order](), "raw hands over []byte or string"},
		"cloudevents raw": {codec.CloudEvents{Data: codec.Raw}, reflect.TypeFor[order](), "raw hands over []byte or string"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.codec.Check(test.value)
			if test.problem == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.problem)
		})
	}
}

func TestDefault(t *testing.T) {
	require.Equal(t, codec.Raw, codec.Default([]byte(nil)))
	require.Equal(t, codec.Raw, codec.Default(""))
	require.Equal(t, codec.Proto, codec.Default((*wrapperspb.StringValue)(nil)))
	require.Equal(t, codec.JSON, codec.Default(order{}))
	require.Equal(t, codec.JSON, codec.Default(nil))
}

func TestRawCopies(t *testing.T) {
	msg := received("abc")
	var got []byte
	require.NoError(t, codec.Raw.Unmarshal(msg, &got))
	got[0] = 'X'
	require.Equal(t, "abc", string(msg.Payload), "a handler's writes must not reach the delivery")
}

func TestCloudEventsBinary(t *testing.T) {
	events := codec.CloudEvents{Source: "/shop"}
	payload, metadata, err := events.Marshal(&order{"a", 5}, output("id-1"))
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"a","cents":5}`, string(payload))
	require.Equal(t, map[string]string{
		"content-type": "application/json", "ce_specversion": "1.0",
		"ce_id": "id-1", "ce_source": "/shop", "ce_type": "order",
	}, metadata)
}

func TestCloudEventsStructured(t *testing.T) {
	events := codec.CloudEvents{Source: "/shop", Structured: true, Type: func(any) string { return "com.shop.order" }}
	payload, metadata, err := events.Marshal(order{"a", 5}, output("id-1"))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"content-type": "application/cloudevents+json"}, metadata)
	require.JSONEq(t, `{"specversion":"1.0","id":"id-1","source":"/shop","type":"com.shop.order",
		"datacontenttype":"application/json","data":{"id":"a","cents":5}}`, string(payload))
	require.Equal(t, "application/cloudevents+json", events.ContentType())

	events.Data = codec.Proto
	payload, _, err = events.Marshal(wrapperspb.String("x"), output("id-1"))
	require.NoError(t, err)
	require.JSONEq(t, `{"specversion":"1.0","id":"id-1","source":"/shop","type":"com.shop.order",
		"datacontenttype":"application/protobuf","data_base64":"CgF4"}`, string(payload))
}

func TestCloudEventsReadsBothModes(t *testing.T) {
	one := received(`{"specversion":"1.0","id":"1","source":"/a","type":"T","data":{"id":"s"}}`,
		"content-type", "application/cloudevents+json; charset=utf-8")
	two := received(`{"id":"b"}`, "ce_specversion", "1.0", "ce_id", "1", "ce_source", "/a", "ce_type", "T")
	batch := received(`[]`, "content-type", "application/cloudevents-batch+json")
	for _, writes := range []codec.CloudEvents{{}, {Structured: true}} {
		var got order
		require.NoError(t, writes.Unmarshal(one, &got))
		require.Equal(t, "s", got.ID)
		require.NoError(t, writes.Unmarshal(two, &got))
		require.Equal(t, "b", got.ID)
		require.ErrorContains(t, writes.Unmarshal(batch, &got), "content-type is application/cloudevents-batch+json")
	}
	delete(two.Metadata, "ce_source")
	require.ErrorContains(t, codec.CloudEvents{}.Unmarshal(two, new(order)), "source: REQUIRED")
}

func TestCloudEventsCannotWrite(t *testing.T) {
	_, _, err := codec.CloudEvents{}.Marshal(order{}, output("id"))
	require.ErrorContains(t, err, "source is empty")
	_, _, err = codec.CloudEvents{Source: "/a", Type: func(any) string { return "" }}.Marshal(order{}, output("id"))
	require.ErrorContains(t, err, "type: MUST be a non-empty string")
	noID := errors.New("no id")
	_, _, err = codec.CloudEvents{Source: "/a"}.Marshal(order{}, codec.Output{ID: func() (string, error) { return "", noID }})
	require.ErrorIs(t, err, noID)
	_, _, err = codec.CloudEvents{Source: "/a"}.Marshal(make(chan int), output("id"))
	require.ErrorContains(t, err, "unsupported type")
}
