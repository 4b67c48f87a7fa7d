package redis

import (
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
)

// packed is metadata as the official marshaler writes it.
func packed(t testing.TB, metadata message.Metadata) string {
	t.Helper()
	msg := message.NewMessage("uuid", nil)
	msg.Metadata = metadata
	fields, err := wire.Marshal("topic", msg)
	require.NoError(t, err)
	return string(fields["metadata"].([]byte))
}

// What is read is what the official marshaler reads.
func FuzzUnpackMetadata(f *testing.F) {
	for _, metadata := range []message.Metadata{nil, {}, {"": ""}, {"name": "value", "other": "välue"}, {"long": strings.Repeat("x", 300)}} {
		whole := packed(f, metadata)
		f.Add(whole)
		f.Add(whole[:max(len(whole)-1, 0)])
	}
	f.Add("\xdf\xff\xff\xff\xff\xa1")
	f.Add("\x81\xa1a\xdb\xff\xff\xff\xff")
	f.Fuzz(func(t *testing.T, text string) {
		got := message.Metadata{}
		if !unpackMetadata(text, got) {
			return
		}
		want, err := wire.Unmarshal(map[string]any{redisstream.UUIDHeaderKey: "uuid", "metadata": text, "payload": ""})
		require.NoError(t, err, "%q", text)
		require.Equal(t, want.Metadata, got)
	})
}

func TestUnpacksEveryLengthAndNothingCutShort(t *testing.T) {
	metadata := message.Metadata{}
	for i, length := range []int{0, 1, 31, 32, 255, 256, 65_535, 65_536} {
		metadata[strings.Repeat("n", length)] = strings.Repeat("v", length+i)
	}
	for i := range 20 { // more pairs than the short head can count
		metadata[string(rune('a'+i))] = ""
	}
	whole, got := packed(t, metadata), message.Metadata{}
	require.True(t, unpackMetadata(whole, got))
	require.Equal(t, metadata, got)
	for cut := 0; cut < len(whole); cut += 1 + cut/50 {
		require.False(t, unpackMetadata(whole[:cut], message.Metadata{}), cut)
	}
}
