package proxy

import "github.com/Shopify/toxiproxy/v2/toxics"

const throughType = "hapax_through"

// through lets everything pass on its way to the server. Once a server has gone, toxiproxy
// takes nothing more, and its own last toxic would wait for that for ever.
type through struct {
	closed <-chan struct{} // with the proxy
}

// Pipe implements toxics.Toxic.
func (t *through) Pipe(stub *toxics.ToxicStub) {
	for {
		select {
		case <-stub.Interrupt: // latency comes behind it, or goes
			return
		case chunk := <-stub.Input:
			if chunk == nil {
				stub.Close()
				return
			}
			select {
			case stub.Output <- chunk:
			case <-t.closed:
				stub.Close()
				for range stub.Input { // until the client's end is closed
				}
				return
			}
		}
	}
}
