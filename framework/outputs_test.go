package framework_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/internal/servers"
)

// Outputs that RabbitMQ has no queue for would be refused: the start says so, unless
// their reader is named, or is a handler of the same service.
func TestStartWarnsOfOutputsThatNobodyReads(t *testing.T) {
	url := servers.Require(t, servers.RabbitMQ).URL
	for readers, warns := range map[string]bool{"": true, "shipments=dispatch.shipments": false} {
		name := "unread-" + strings.ToLower(rand.Text()[:8])
		cfg := parse(t, fmt.Sprintf("broker: rabbitmq\nrabbitmq: {url: %q, readers: [%s]}\ntopics: {orders: {name: %s}, shipments: {name: %s.out}, own: {name: %s.own}}\n", url, readers, name, name, name))
		var log bytes.Buffer
		service, err := framework.New(t.Context(), cfg, framework.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		require.NoError(t, err)
		ship := func(context.Context, Order) (Shipment, error) { return Shipment{}, nil }
		framework.Handle(service, "orders", ship, framework.To("shipments"))
		framework.Handle(service, "orders", ship, framework.To("own"), framework.Name("other"))
		framework.Handle(service, "own", func(context.Context, Shipment) error { return nil })
		require.NoError(t, start(t, service)())
		require.Equal(t, warns, strings.Contains(log.String(), `check rabbitmq-unrouted" about=`+name+".out"), log.String())
		require.NotContains(t, log.String(), "about="+name+".own")
	}
}
