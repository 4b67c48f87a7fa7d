package demo

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
)

// The outputs are told by the orders in the lane's shop, which is another database with
// --sql than without.
func TestSQSOutputsOfEitherShop(t *testing.T) {
	order := fault.Effect{ID: "order-1", Key: "customer", Seq: 3}
	for name, place := range map[string]func(folder string) config.DSN{
		"its own file":     func(folder string) config.DSN { return config.DSN(shopFile(folder, laneHapax)) },
		"another database": func(folder string) config.DSN { return config.DSN("sqlite:" + filepath.Join(folder, "else.db")) },
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			cfg := sqsBroker.config(folder, laneHapax)
			cfg.SQL.DSN = place(folder)
			shop, err := openShop(t.Context(), cfg.SQL.DSN)
			require.NoError(t, err)
			require.NoError(t, effects.Insert(t.Context(), shop, order))
			require.NoError(t, shop.Close())
			tried, err := effects.Open(t.Context(), deliveriesFile(folder, laneHapax))
			require.NoError(t, err)
			require.NoError(t, effects.InsertDelivery(t.Context(), tried, fault.Delivery{ID: topicShipping + "/" + order.ID}))
			require.NoError(t, tried.Close())
			outputs, err := sqsOutputs(t.Context(), cfg)
			require.NoError(t, err)
			require.Len(t, outputs, 1)
			require.Equal(t, order.ID, outputs[0].ID)
			require.Equal(t, order.Seq, outputs[0].Seq)
		})
	}
}
