package framework_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework"
)

// A service refuses what doctor calls unsafe, before it takes a message, and starts
// when the config allows it by name.
func TestStartRefusesWhatIsUnsafe(t *testing.T) {
	const unsafe = "dedup: {window: 5s}\n"
	ship := func(context.Context, Order) error { return nil }

	service := newService(t, parse(t, unsafe))
	framework.Handle(service, "orders", ship)
	err := service.Run(t.Context())
	require.ErrorContains(t, err, `check dedup-window of orders: dedup.window is 5s`)
	require.ErrorContains(t, err, `add "dedup-window" to allow`)

	service = newService(t, parse(t, unsafe+"allow: [dedup-window]\n"))
	framework.Handle(service, "orders", ship)
	require.NoError(t, start(t, service)())
}
