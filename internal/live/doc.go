// Package live runs the binary of a service on a broker, and looks at what it did
// without Hapax: by the broker's own client.
//
//	place := live.New(t, "kafka", "orders", "shipments")
//	service := live.Start(t, binary, folder, place.Environ)
//	...publish to place.Topic("orders")...
//	service.Await(t, func(count live.Counts) bool { return count["processed"] == 2 })
//	payloads := place.Read(t, "shipments")
//
// A place is one broker with names of its own: topics carry a random prefix, and
// everything is removed at the end. What differs between places is in Environ, so
// that the binary and its files stay the same.
package live
