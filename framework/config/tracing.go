package config

// Tracing sends OpenTelemetry traces to a collector. The trace of a message is
// handed on to what is made of it whether or not traces are sent.
type Tracing struct {
	// Endpoint of the collector, which takes OTLP over HTTP. "": no traces are
	// sent. Default "".
	Endpoint string `yaml:"endpoint" pattern:"^(https?://[^/]+)?$" example:"http://127.0.0.1:4318"`
	// Sample is the share of the traces that begin here which are sent, from 0 to 1;
	// of others, who began them has decided. Default 1.
	Sample float64 `yaml:"sample" min:"0" max:"1"`
}
