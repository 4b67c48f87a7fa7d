package codec_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/hapax-go/hapax/handlers/codec"
)

// A payload is read or refused, never a panic; it is not changed; and what was
// read is written and read again as the same value.
func fuzz(f *testing.F, c codec.Codec, fresh func() any) {
	f.Fuzz(func(t *testing.T, payload []byte) {
		msg := received(string(payload))
		value := fresh()
		err := c.Unmarshal(msg, value)
		require.True(t, bytes.Equal(payload, msg.Payload), "payload was changed")
		if err != nil {
			return
		}
		written, metadata, err := c.Marshal(value, output("id"))
		require.NoError(t, err)
		again := received(string(written))
		again.Metadata = metadata
		reread := fresh()
		require.NoError(t, c.Unmarshal(again, reread))
		rewritten, _, err := c.Marshal(reread, output("id"))
		require.NoError(t, err)
		require.Equal(t, written, rewritten)
	})
}

func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{"id":"a","cents":1}`, `null`, `{}x`, `{"id":"\ud800"}`, ``} {
		f.Add([]byte(seed))
	}
	fuzz(f, codec.JSON, func() any { return new(order) })
}

func FuzzStrictJSON(f *testing.F) {
	for _, seed := range []string{`{"id":"a","cents":1}`, ` null `, `{} {}`, `{"x":1}`, ``} {
		f.Add([]byte(seed))
	}
	fuzz(f, codec.StrictJSON, func() any { return new(order) })
}

func FuzzProto(f *testing.F) {
	for _, seed := range []string{"", "\n\x05\n\x01a\x12\x00", "\xff"} {
		f.Add([]byte(seed))
	}
	fuzz(f, codec.Proto, func() any { return new(structpb.Struct) })
}

func FuzzCloudEventsStructured(f *testing.F) {
	for _, seed := range []string{
		`{"specversion":"1.0","id":"1","source":"/a","type":"T","data":{"id":"a"}}`,
		`{"data_base64":"e30=","specversion":"1.0","id":"1","source":"/a","type":"T"}`,
		`{"data_base64":1,"specversion":"1.0","id":"1","source":"/a","type":"T"}`,
		`{"specversion":"0.3","datacontentencoding":null}`, `{"":1}`, `null`, `[]`,
	} {
		f.Add([]byte(seed))
	}
	fuzz(f, codec.CloudEvents{Source: "/shop", Structured: true}, func() any { return new(order) })
}

func FuzzCloudEventsBinary(f *testing.F) {
	f.Add("1.0", "1", "/a", "T", "application/json", []byte(`{"id":"a"}`))
	f.Add("1.0", "", "%", "", "application/cloudevents+json", []byte(`{}`))
	f.Fuzz(func(t *testing.T, version, id, source, kind, contentType string, payload []byte) {
		msg := received(string(payload), "ce_specversion", version, "ce_id", id,
			"ce_source", source, "ce_type", kind, "content-type", contentType)
		var got order
		if err := (codec.CloudEvents{}).Unmarshal(msg, &got); err == nil {
			require.NotEmpty(t, payload)
		}
	})
}

func FuzzRaw(f *testing.F) {
	f.Add([]byte("a\x00\xff"))
	fuzz(f, rawPointer{codec.Raw}, func() any { return new([]byte) })
}

// rawPointer lets the shared property write what the pointer points to.
type rawPointer struct{ codec.Codec }

func (r rawPointer) Marshal(value any, out codec.Output) ([]byte, map[string]string, error) {
	return r.Codec.Marshal(*value.(*[]byte), out)
}
