package config

// Topic says how one topic differs from the rule.
type Topic struct {
	// Name is what the broker calls the topic. Default: made from the logical
	// name by the broker's naming rule.
	Name string `yaml:"name" example:"prod-orders-created"`
	// DeadLetter is the logical name of the topic for messages that cannot be
	// processed. Default: the topic's logical name with ".dead" appended.
	DeadLetter string `yaml:"dead_letter" example:"orders.created.dead"`
}

// Handler is what can differ for one handler. A key that is left out has the
// value of the block of the same meaning; after Load every field is filled in.
type Handler struct {
	// Strategy replaces dedup.strategy. Default: dedup.strategy.
	Strategy string `yaml:"strategy" enum:"auto|$strategies"`
	// Claim replaces dedup.claim. Default: dedup.claim.
	Claim string `yaml:"claim" enum:"|pessimistic|optimistic"`
	// Window replaces dedup.window. Default: dedup.window.
	Window Duration `yaml:"window" min:"1s"`
	// Consumer replaces single keys of consumer.
	Consumer Consumer `yaml:"consumer"`
	// Retry replaces single keys of retry.
	Retry Retry `yaml:"retry"`
}

// Handler returns the settings of a handler: its own where the file has them,
// the service's otherwise.
func (c *Config) Handler(name string) Handler {
	if own, ok := c.Handlers[name]; ok {
		return own
	}
	return c.inherited()
}

func (c *Config) inherited() Handler {
	return Handler{
		Strategy: c.Dedup.Strategy,
		Claim:    c.Dedup.Claim,
		Window:   c.Dedup.Window,
		Consumer: c.Consumer,
		Retry:    c.Retry,
	}
}

// Consumer says how messages are handed to handlers.
type Consumer struct {
	// Window bounds the messages handed out and not yet acknowledged, per
	// handler; 1: one at a time. Default 1000.
	Window int `yaml:"window" min:"1" max:"1000000"`
	// Ordering says which messages wait for each other. key: equal keys one at
	// a time and in order, all else concurrently; partition: the broker's own
	// order; none: everything concurrently. Default key.
	Ordering string `yaml:"ordering" enum:"key|partition|none"`
	// MaxDeliveries sends a message to the dead-letter topic that was handed
	// out this often and never acknowledged: it may be what kills its consumer.
	// Failures of a store or a broker around the handler do not count, nor waiting
	// for another worker that has the event. -1: no limit. Default 20.
	MaxDeliveries int `yaml:"max_deliveries" min:"-1"`
	// RedeliveryDelay is the pause before a failed message is handed out again,
	// unless the handler asks for another. 0: at once. Default 100ms.
	RedeliveryDelay Duration `yaml:"redelivery_delay"`
	// HandlerTimeout cancels the context of a handler that runs longer; it then
	// counts as failed. 0: no limit. Default 0.
	HandlerTimeout Duration `yaml:"handler_timeout"`
}

// Retry says how often a failed handler runs again inside one delivery.
type Retry struct {
	// MaxAttempts is how often a handler runs before its message goes to the
	// dead-letter topic, the first time included. 1: no retry. Default 5.
	MaxAttempts int `yaml:"max_attempts" min:"1"`
	// InitialInterval is the pause before the second attempt. 0: no pauses.
	// Default 100ms.
	InitialInterval Duration `yaml:"initial_interval"`
	// MaxInterval caps the pause between attempts. 0: no pauses. Default 10s.
	MaxInterval Duration `yaml:"max_interval"`
	// Multiplier makes each pause longer than the one before. 1: constant
	// pauses. Default 2.
	Multiplier float64 `yaml:"multiplier" min:"1"`
}
