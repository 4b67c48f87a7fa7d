// Package framework is what a service is written against: Main, Handle, and a
// hapax.yaml that picks the broker.
//
//	func main() {
//		framework.Main(func(s *framework.Service) {
//			framework.Handle(s, "orders.created", PlaceOrder, framework.To("shipping.requested"))
//		})
//	}
//
// It is the only package that wires: it opens the broker that the configuration
// names, looks up the strategy in the rules table, and puts every handler behind
// the same chain on a Watermill Router. Nothing else in the module knows it.
//
// A service's life:
//
//	New ──► Handle, Use … ──► Run: check ──► ready ──(ctx ends)──► drain ──► closed
//	                                 │
//	                                 └─ anything wrong: every problem at once, before
//	                                    the first message is taken
package framework
