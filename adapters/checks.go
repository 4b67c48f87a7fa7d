package adapters

import (
	"context"
	"time"
)

// Checker is implemented by brokers that can look at the topics and groups of a
// service before its first subscription: what Check sees is the broker alone.
// The start of a service and hapax doctor both ask it.
type Checker interface {
	// Checks looks at what the uses name, changes nothing, and creates nothing. It
	// answers with a finding for each thing it looked at, those that are in order
	// included. That something cannot be looked at is a finding too, never silence.
	Checks(ctx context.Context, uses []Use) []Finding
}

// OutputChecker is implemented by brokers that keep a message only where somebody
// reads it. The start of a service asks it.
type OutputChecker interface {
	// CheckOutputs looks at topics that the service publishes to and does not read
	// itself, as Checks looks at those that it reads.
	CheckOutputs(ctx context.Context, topics []string) []Finding
}

// Use is what a service is about to do with one topic.
type Use struct {
	// Topic is read by Group; both as Subscriber gets them.
	Topic, Group string
	// DeadLetter is where its dead letters go.
	DeadLetter string
	// Ordering is that of the subscription.
	Ordering Ordering
	// Strategy of the handler, by its name in the rules table.
	Strategy string
	// Window is how long its marks last.
	Window time.Duration
	// MaxDeliveries is that of the subscription; negative: no limit.
	MaxDeliveries int
	// HandlerTimeout bounds a run of the handler; 0: nothing does.
	HandlerTimeout time.Duration
}

// OK reports that the check found what it expected.
func (f Finding) OK() bool { return f.Problem == "" }

// MaxClockSkew is how far apart the clocks of a service and of a server may be.
// Windows and leases are judged by one clock each, so a little does no harm; more
// shifts what retention deletes against what a window still expects.
const MaxClockSkew = 5 * time.Second

// ClockFinding judges the clock of a server, asked between two looks at this
// process's own.
func ClockFinding(name, about string, before, server, after time.Time) Finding {
	finding := Finding{Name: name, About: about}
	// The answer was made somewhere in between: what is inside is no skew.
	var skew time.Duration
	switch {
	case server.Before(before):
		skew = server.Sub(before)
	case server.After(after):
		skew = server.Sub(after)
	}
	finding.Found = "differs by less than " + MaxClockSkew.String()
	if skew.Abs() > MaxClockSkew {
		finding.Found = ""
		finding.Problem = "the server's clock differs from this machine's by " + skew.Round(time.Millisecond).String() + ", expected at most " + MaxClockSkew.String() + ": windows end too early or too late by as much"
		finding.Fix = "synchronise both machines' clocks, with NTP for instance"
	}
	return finding
}
