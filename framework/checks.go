package framework

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework/config"
)

// Diagnose connects to everything a config names and runs the checks that a
// service with these handlers runs when it starts, without starting anything.
// handlers maps a handler's name to its topic. It creates and changes nothing,
// except that a SQLite file is made when it is missing, and put into WAL mode. That
// something cannot be reached is a finding.
func Diagnose(ctx context.Context, cfg *config.Config, logger *slog.Logger, handlers map[string]string) []adapters.Finding {
	broker, err := OpenBroker(ctx, cfg, logger)
	if err != nil {
		return []adapters.Finding{{
			Name: "broker-connection", About: cfg.Broker, Fatal: true, Problem: err.Error(),
			Fix: "start the broker, or correct the " + cfg.Broker + " block of the config",
		}}
	}
	findings := []adapters.Finding{{Name: "broker-connection", About: cfg.Broker, Found: "answers"}}
	findings = append(findings, examine(ctx, cfg, broker, handlers)...)
	if err := broker.Close(); err != nil {
		findings = append(findings, adapters.Finding{Name: "broker-connection", About: cfg.Broker, Problem: err.Error(), Fix: "look at the broker's log"})
	}
	return findings
}

// examine runs every check: the config's own, the broker's, the databases'.
func examine(ctx context.Context, cfg *config.Config, broker adapters.Broker, handlers map[string]string) []adapters.Finding {
	findings := checkConfig(cfg, handlers)
	if broker.Capabilities().ConsumerGroups {
		findings = append(findings, groupFinding(cfg.Service)...)
	}
	findings = append(findings, broker.Check(ctx)...)
	if checker, can := broker.(adapters.Checker); can {
		findings = append(findings, checker.Checks(ctx, uses(cfg, handlers))...)
	}
	return append(findings, checkDatabases(ctx, cfg, handlers)...)
}

// uses translates handlers to what the broker will be asked to do.
func uses(cfg *config.Config, handlers map[string]string) (list []adapters.Use) {
	names := topicNamesOf(cfg)
	for _, handler := range slices.Sorted(maps.Keys(handlers)) {
		topic, settings := handlers[handler], cfg.Handler(handler)
		rule, err := RuleFor(cfg, handlers[handler], handler)
		if err != nil {
			continue // checkConfig says so
		}
		list = append(list, adapters.Use{
			Topic: names.of(topic), Group: cfg.Service + "." + handler, DeadLetter: names.of(letterTopic(cfg, topic)),
			Ordering: adapters.Ordering(settings.Consumer.Ordering), Strategy: rule.Strategy, Window: time.Duration(settings.Window),
			MaxDeliveries: settings.Consumer.MaxDeliveries, HandlerTimeout: time.Duration(settings.Consumer.HandlerTimeout),
		})
	}
	return list
}

// checkConfig finds what is wrong whatever the servers are like.
func checkConfig(cfg *config.Config, handlers map[string]string) (findings []adapters.Finding) {
	for _, handler := range slices.Sorted(maps.Keys(handlers)) {
		rule, err := RuleFor(cfg, handlers[handler], handler)
		if err != nil {
			findings = append(findings, adapters.Finding{Name: "strategy", About: handler, Fatal: true, Problem: err.Error(), Fix: "correct dedup, or the handler's block"})
			continue
		}
		findings = append(findings, strategyFinding(cfg, handler, rule), windowFinding(cfg, handler, rule))
	}
	return findings
}

func strategyFinding(cfg *config.Config, handler string, rule dedup.Rule) adapters.Finding {
	finding := adapters.Finding{Name: "strategy", About: handler, Found: rule.Strategy}
	store, _ := cfg.LedgerStore()
	switch {
	case rule.Strategy == dedup.StrategyNone:
		finding.Name, finding.Problem = "dedup-off", "deduplication is off: every copy takes effect"
		finding.Fix = "set dedup.strategy: auto"
	case rule.Ledger && store == "memory":
		finding.Name, finding.Problem = "ledger-volatile", "the ledger forgets when the process ends: what comes again after a restart takes effect again"
		finding.Fix = "set dedup.ledger.store to a durable one"
	case rule.Ledger && store == "sqlite" && cfg.Broker != "sqlite":
		finding.Name, finding.Problem = "ledger-one-host", "the ledger is a file, but the broker delivers to any host: two hosts with a file each process an event once each"
		finding.Fix = "run all instances on one host with one file, or set dedup.ledger.dsn to a database or Redis that all of them reach"
	}
	if finding.Problem != "" {
		finding.Found = ""
	}
	return finding
}

// groupFinding looks at what consumer groups are called: SERVICE.HANDLER. Handlers are
// called like topics, with dots; only as long as services are not, the first dot tells
// where the service ends, and no two of them share a group.
func groupFinding(service string) []adapters.Finding {
	other, rest, dotted := strings.Cut(service, ".")
	if !dotted {
		return nil
	}
	return []adapters.Finding{{
		Name: "broker-group", About: service, Fatal: true,
		Problem: fmt.Sprintf("consumer groups are called SERVICE.HANDLER, and with a dot in the service's name a handler of another service can have the same, such as %q of a service %q: of a topic that both read, each event would reach only one of them", rest+".created", other),
		Fix:     "rename a service that has not run yet, with a dash for the dot; one that has would process everything again under another name: it keeps its own, and allows this",
	}}
}

// windowFinding compares the window with how late a copy of what was just
// processed may be on any broker: it may wait for another's lease to run out, in
// flight, and through a shutdown. What a broker itself holds back longer, its own
// checks know.
func windowFinding(cfg *config.Config, handler string, rule dedup.Rule) adapters.Finding {
	window := time.Duration(cfg.Handler(handler).Window)
	name, lease := longestLease(cfg, rule)
	longest := 2*time.Duration(lease) + time.Duration(cfg.Dedup.InFlightWait) + time.Duration(cfg.Shutdown.DrainTimeout)
	finding := adapters.Finding{Name: "dedup-window", About: handler, Found: fmt.Sprintf("%s, redelivery within %s", config.Duration(window), config.Duration(longest))}
	if window < longest && rule.Strategy != dedup.StrategyNone {
		finding.Fatal, finding.Found = true, ""
		finding.Problem = fmt.Sprintf("dedup.window is %s, but a copy may be handed out again %s after the event was processed (twice %s, in_flight_wait and drain_timeout together): it would take effect again", config.Duration(window), config.Duration(longest), name)
		finding.Fix = fmt.Sprintf("set dedup.window to %s or more", config.Duration(longest))
	}
	return finding
}

// longestLease is the longest that a worker which died can hold an event back: by its
// claim, or by a message that it marked and did not acknowledge. A broker's own strategy
// does both in one step.
func longestLease(cfg *config.Config, rule dedup.Rule) (name string, lease config.Duration) {
	name, lease = "dedup.lease", cfg.Dedup.Lease
	if !rule.Ledger && !(rule.Strategy == dedup.StrategyInbox && ownDatabase(cfg)) {
		return name, lease
	}
	switch {
	case cfg.Broker == "sqlite" && cfg.SQLite.Lease > lease:
		return "sqlite.lease", cfg.SQLite.Lease
	case cfg.Broker == "redis" && cfg.Redis.Lease > lease:
		return "redis.lease", cfg.Redis.Lease
	}
	return name, lease
}

// Allowed reports whether a config lets a service start in spite of a finding.
func Allowed(finding adapters.Finding, allow []string) bool {
	return slices.Contains(allow, finding.Name) && !slices.Contains(config.Needed, finding.Name)
}

// judge turns findings into what keeps the service from starting, and logs the
// others. Doctor's table and this are the same findings.
func judge(findings []adapters.Finding, allow []string, logger *slog.Logger) error {
	var errs []error
	for _, finding := range findings {
		allowed := Allowed(finding, allow)
		about, hint := "", ""
		if finding.About != "" {
			about = " of " + finding.About
		}
		if !slices.Contains(config.Needed, finding.Name) {
			hint = fmt.Sprintf(" (to start anyway: add %q to allow)", finding.Name)
		}
		switch {
		case finding.OK():
			logger.Debug("check "+finding.Name, "about", finding.About, "found", finding.Found)
		case finding.Fatal && !allowed:
			errs = append(errs, fmt.Errorf("check %s%s: %s: %s%s", finding.Name, about, finding.Problem, finding.Fix, hint))
		default:
			logger.Warn("check "+finding.Name, "about", finding.About, "problem", finding.Problem, "fix", finding.Fix, "allowed", allowed)
		}
	}
	return errors.Join(errs...)
}
