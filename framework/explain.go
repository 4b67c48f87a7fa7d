package framework

import (
	"fmt"
	"strings"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework/config"
)

// Explanation is what a config guarantees for one handler, in words.
type Explanation struct {
	Handler  string          `json:"handler"`
	Topic    string          `json:"topic"`
	Broker   string          `json:"broker"`
	Strategy string          `json:"strategy"`
	Claim    dedup.ClaimKind `json:"claim,omitempty"`
	// Chosen is what made it this strategy.
	Chosen string `json:"chosen"`
	// Marks says where it is remembered what was processed, and for how long.
	Marks string `json:"marks"`
	// Effects are the kinds of effects that a handler can have.
	Effects []EffectGuarantee `json:"effects"`
}

// EffectGuarantee is the guarantee of one kind of effect.
type EffectGuarantee struct {
	Effect    string `json:"effect"`
	Guarantee string `json:"guarantee"`
	Because   string `json:"because"`
}

// Explain says what a config guarantees for a handler of a topic.
func Explain(cfg *config.Config, topic, handler string) (Explanation, error) {
	rule, err := RuleFor(cfg, topic, handler)
	if err != nil {
		return Explanation{}, err
	}
	e := Explanation{
		Handler: handler, Topic: topic, Broker: cfg.Broker, Strategy: rule.Strategy, Claim: rule.Claim,
		Chosen: chosen(cfg, handler), Marks: marksOf(cfg, handler, rule),
	}
	var outputs, sql EffectGuarantee
	switch {
	case rule.Strategy == dedup.StrategyNone:
		outputs = EffectGuarantee{Guarantee: "at least once: each copy of an event makes them again, under the same event IDs", Because: "deduplication is off"}
		sql = EffectGuarantee{Guarantee: "not offered", Because: "deduplication is off"}
	case rule.Ledger:
		outputs = EffectGuarantee{Guarantee: "at least once, each copy under the same event ID, so that the next Hapax consumer takes it once",
			Because: "outputs, mark and acknowledgement are three steps in this order; a crash between the first two repeats the outputs"}
		sql = EffectGuarantee{Guarantee: "not offered: the handler's own SQL is at least once", Because: "the ledger commits by itself; set sql.dsn to commit SQL with the mark"}
	case rule.Strategy == dedup.StrategyInbox && ownDatabase(cfg):
		outputs = EffectGuarantee{Guarantee: "if and only if the transaction commits; published at least once, each copy under the same event ID, so that the next Hapax consumer takes it once",
			Because: "they are rows of the outbox in the handler's transaction, and a relay publishes them"}
		sql = EffectGuarantee{Guarantee: "exactly once, through inbox.Tx(ctx)", Because: "it commits in the transaction that marks the event"}
	case rule.Strategy == dedup.StrategyInbox:
		outputs = EffectGuarantee{Guarantee: "exactly once", Because: "they commit with the mark and the acknowledgement, in the broker's own file"}
		sql = EffectGuarantee{Guarantee: "exactly once, through inbox.Tx(ctx), in the broker's own file", Because: "the same transaction"}
	default: // a broker's own
		outputs = EffectGuarantee{Guarantee: "exactly once, for readers of committed messages", Because: "they commit with the mark and the acknowledgement in one " + atom(rule.Strategy)}
		if rule.Strategy == dedup.StrategyXAck && cfg.Redis.Mode == "cluster" {
			outputs = EffectGuarantee{Guarantee: "exactly once to streams with the input's hash tag; to others at least once, each copy under the same event ID",
				Because: "a step cannot span the nodes of a cluster"}
		}
		sql = EffectGuarantee{Guarantee: "not offered: the handler's own SQL is at least once", Because: "the broker and a database do not commit together; set sql.dsn for the inbox"}
	}
	outputs.Effect, sql.Effect = "outputs to topics", "SQL of the handler"
	e.Effects = []EffectGuarantee{outputs, sql, outside(rule), runs(rule), old(cfg, handler, rule), conflicting(cfg, rule)}
	return e, nil
}

func chosen(cfg *config.Config, handler string) string {
	switch {
	case cfg.Handler(handler).Strategy != "auto" && cfg.Handler(handler).Strategy != cfg.Dedup.Strategy:
		return cfg.WhereHandler(handler, "strategy") + " asks for it"
	case cfg.Handler(handler).Strategy != "auto":
		return cfg.Where("dedup.strategy") + " asks for it"
	case ownDatabase(cfg):
		return "sql.dsn is set, and a database of the service's own takes precedence over the broker's strategy"
	}
	return "the rules table has it for broker " + cfg.Broker
}

func marksOf(cfg *config.Config, handler string, rule dedup.Rule) string {
	window := cfg.Handler(handler).Window
	store, _ := cfg.LedgerStore()
	switch {
	case rule.Strategy == dedup.StrategyNone:
		return "none"
	case rule.Ledger && store == "memory":
		return fmt.Sprintf("in this process's memory, for %s or until it ends", window)
	case rule.Ledger:
		return fmt.Sprintf("in a ledger in %s, for %s", store, window)
	case rule.Strategy == dedup.StrategyInbox && ownDatabase(cfg):
		return fmt.Sprintf("in the table %s of the service's database, for %s", cfg.SQL.Inbox.Table, window)
	case rule.Strategy == dedup.StrategyTransaction:
		return fmt.Sprintf("in a Kafka topic of processed IDs beside the input, for %s", window)
	}
	return fmt.Sprintf("in %s, beside the messages, for %s", cfg.Broker, window)
}

func atom(strategy string) string {
	if strategy == dedup.StrategyTransaction {
		return "transaction of the broker"
	}
	return "step of the server"
}

func outside(rule dedup.Rule) EffectGuarantee {
	if rule.Strategy == dedup.StrategyNone {
		return EffectGuarantee{"calls to the outside world", "at least once; again on every copy", "deduplication is off"}
	}
	return EffectGuarantee{"calls to the outside world", "at least once, with a stable key: pass handlers.IdempotencyKey(ctx, name) on",
		"no transaction covers them: a crash after the call and before the commit repeats it"}
}

func runs(rule dedup.Rule) EffectGuarantee {
	effect := "runs of the handler"
	switch {
	case rule.Strategy == dedup.StrategyNone:
		return EffectGuarantee{effect, "once for each copy, and again after a crash", "deduplication is off"}
	case rule.Claim == dedup.Pessimistic:
		return EffectGuarantee{effect, "by one worker at a time; again after a crash or a failure", "a fenced lease is taken before it runs"}
	}
	return EffectGuarantee{effect, "may run twice at the same time, and takes effect once; again after a crash or a failure", "claims are optimistic: the commit decides, and the loser's effects are discarded"}
}

func old(cfg *config.Config, handler string, rule dedup.Rule) EffectGuarantee {
	if rule.Strategy == dedup.StrategyNone {
		return EffectGuarantee{"copies, however late", "take effect again", "nothing is remembered"}
	}
	return EffectGuarantee{fmt.Sprintf("copies later than %s", cfg.Handler(handler).Window), "take effect again", "marks last for dedup.window"}
}

func conflicting(cfg *config.Config, rule dedup.Rule) EffectGuarantee {
	effect := "the same ID with another payload"
	switch {
	case rule.Strategy == dedup.StrategyNone:
		return EffectGuarantee{effect, "takes effect", "nothing is compared"}
	case dedup.ConflictPolicy(cfg.Dedup.Conflict) == dedup.Ignore:
		return EffectGuarantee{effect, "is dropped as a duplicate", "dedup.conflict is ignore"}
	}
	return EffectGuarantee{effect, "goes to the dead-letter topic, visibly", "dedup.conflict is quarantine"}
}

// String is the explanation as text.
func (e Explanation) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "handler %s of topic %s on broker %s\n", e.Handler, e.Topic, e.Broker)
	fmt.Fprintf(&text, "  strategy %s: %s\n  marks: %s\n", e.Strategy, e.Chosen, e.Marks)
	for _, effect := range e.Effects {
		fmt.Fprintf(&text, "  %s: %s\n    because %s\n", effect.Effect, effect.Guarantee, effect.Because)
	}
	return text.String()
}
