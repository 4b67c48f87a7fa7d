// Command first is a whole service: each order is shipped once.
package main

import (
	"context"

	"github.com/hapax-go/hapax/framework"
)

type Order struct{ ID, Item string }

type Shipment struct{ OrderID, Item string }

// Ship is a plain function: no tags, no annotations, no broker types.
func Ship(ctx context.Context, order Order) (Shipment, error) {
	return Shipment{OrderID: order.ID, Item: order.Item}, nil
}

func main() {
	framework.Main(func(s *framework.Service) {
		framework.Handle(s, "orders", Ship, framework.To("shipments"))
	})
}
