package rabbitmq

import (
	"crypto/tls"
	"testing"

	"github.com/stretchr/testify/require"
)

// A URL without a port means the one for what is spoken there.
func TestPortOfTheURL(t *testing.T) {
	for _, test := range []struct {
		url  string
		tls  *tls.Config
		want int
	}{
		{"amqp://host/", nil, 5672},
		{"amqps://host/", nil, 5671},
		{"amqp://host/", &tls.Config{}, 5671},
		{"amqp://host:5672/", &tls.Config{}, 5672},
	} {
		config := Config{URL: test.url, TLS: test.tls}
		uri, err := config.complete()
		require.NoError(t, err)
		require.Equal(t, test.want, uri.Port, test.url)
	}
}
