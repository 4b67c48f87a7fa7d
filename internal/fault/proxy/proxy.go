package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// Proxy forwards TCP connections on 127.0.0.1. Its methods are safe for
// concurrent use; faults apply to connections that are open already as well.
type Proxy struct {
	addr  string
	proxy *toxiproxy.Proxy
	chaos *chaos

	mu      sync.Mutex // guards latency; keeps Up, Down and Latency apart
	latency bool
}

// Listen starts a proxy to upstream on a free port of 127.0.0.1, without
// faults. The faults it is given later are drawn from the seed: the same for
// the nth connection of every run.
func Listen(upstream string, seed uint64) (*Proxy, error) {
	register()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	inner := toxiproxy.NewProxy(server, "fault", "127.0.0.1:0", upstream)
	p := &Proxy{proxy: inner}
	// Installed before the first connection, and never removed: toxiproxy's
	// rebuilding of live links would be one more source of trouble.
	toxic, err := p.add(toxicSpec{Type: chaosType, Stream: "downstream", Toxicity: 1})
	if err != nil {
		return nil, err
	}
	p.chaos = toxic.(*chaos)
	p.chaos.start(seed)
	if toxic, err = p.add(toxicSpec{Type: throughType, Stream: "upstream", Toxicity: 1}); err != nil {
		return nil, err
	}
	toxic.(*through).closed = p.chaos.closed
	if err := inner.Start(); err != nil {
		return nil, fmt.Errorf("start proxy to %s: %w", upstream, err)
	}
	p.addr = inner.Listen
	return p, nil
}

// toxicSpec is toxiproxy's JSON form of a toxic, the only one it takes.
type toxicSpec struct {
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Stream     string         `json:"stream"`
	Toxicity   float32        `json:"toxicity"`
	Attributes map[string]any `json:"attributes"`
}

func (p *Proxy) add(spec toxicSpec) (any, error) {
	if spec.Name == "" {
		spec.Name = spec.Type
	}
	if spec.Attributes == nil {
		spec.Attributes = map[string]any{}
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("add toxic %s: %w", spec.Name, err)
	}
	wrapper, err := p.proxy.Toxics.AddToxicJson(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("add toxic %s: %w", spec.Name, err)
	}
	return wrapper.Toxic, nil
}

// Addr returns the address to give to clients instead of the upstream's.
func (p *Proxy) Addr() string { return p.addr }

// CutEvery cuts every connection between min and max after it was made, and the
// open ones between min and max from now. A zero max ends it.
func (p *Proxy) CutEvery(min, max time.Duration) {
	p.chaos.change(func(f *faults) { f.cutMin, f.cutMax = min, max })
}

// Drop says how answers get lost.
type Drop struct {
	// Fraction of the answers that are dropped, from 0 to 1; each ends its
	// connection.
	Fraction float64
	// Spare is the number of answers at the start of a connection that are let
	// through, such as those of a handshake.
	Spare int
	// Delay is the time from the dropped answer to the connection's end. The client waits
	// as long, or until its own timeout.
	Delay time.Duration
}

// DropResponses drops answers. The zero Drop ends it.
func (p *Proxy) DropResponses(drop Drop) {
	p.chaos.change(func(f *faults) { f.drop = drop })
}

// DelayResponses holds a fraction of the answers back for between min and max,
// and with each the answers behind it. A zero fraction ends it.
func (p *Proxy) DelayResponses(fraction float64, min, max time.Duration) {
	p.chaos.change(func(f *faults) { f.delayFraction, f.delayMin, f.delayMax = fraction, min, max })
}

// Latency delays everything on its way to the server by latency ± jitter, without
// limiting how much is under way. Zero ends it.
func (p *Proxy) Latency(latency, jitter time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.latency {
		if err := p.proxy.Toxics.RemoveToxic(context.Background(), "latency"); err != nil {
			return fmt.Errorf("remove latency: %w", err)
		}
		p.latency = false
	}
	if latency <= 0 {
		return nil
	}
	_, err := p.add(toxicSpec{Type: "latency", Stream: "upstream", Toxicity: 1, Attributes: map[string]any{
		"latency": latency.Milliseconds(), "jitter": jitter.Milliseconds(),
	}})
	p.latency = err == nil
	return err
}

// Heal ends every fault of CutEvery, DropResponses, DelayResponses and Latency.
func (p *Proxy) Heal() error {
	p.chaos.change(func(f *faults) { *f = faults{} })
	return p.Latency(0, 0)
}

// Down closes every connection and refuses new ones.
func (p *Proxy) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proxy.Stop()
}

// Up accepts connections again, at the same address.
func (p *Proxy) Up() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.proxy.Start(); err != nil {
		return fmt.Errorf("start proxy at %s: %w", p.addr, err)
	}
	return nil
}

// Stats counts what really happened.
func (p *Proxy) Stats() Stats { return p.chaos.stats() }

// Close closes every connection and the proxy. It cannot be used afterwards.
func (p *Proxy) Close() {
	p.chaos.close()
	p.Down()
	p.chaos.links.Wait()
}
