package framework

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework/config"
)

// RuleFor is the row of the rules table in force for a handler of a topic: the
// broker's, with the strategy and the kind of claim that the config insists on.
func RuleFor(cfg *config.Config, topic, handler string) (dedup.Rule, error) {
	settings := cfg.Handler(handler)
	broker := ruleBroker(cfg, topic)
	rule, err := dedup.RuleFor(broker, ownDatabase(cfg))
	if err != nil {
		return rule, err
	}
	if settings.Strategy != "auto" && settings.Strategy != rule.Strategy {
		// The broker's own row, asked for in spite of a database, is whole; others borrow
		// a strategy.
		if own, err := dedup.RuleFor(broker, false); err == nil && own.Strategy == settings.Strategy {
			rule = own
		} else {
			rule = rule.With(settings.Strategy)
		}
	}
	if kind := dedup.ClaimKind(settings.Claim); kind != "" && len(rule.Claims) > 0 {
		if !slices.Contains(rule.Claims, kind) {
			return rule, fmt.Errorf("claim is %q: strategy %q supports %q only", kind, rule.Strategy, rule.Claims)
		}
		rule.Claim = kind
	}
	return rule, nil
}

// ownDatabase reports whether the service has a database beside its broker. The
// embedded broker's own file is none: there the acknowledgement commits as well.
func ownDatabase(cfg *config.Config) bool {
	if !cfg.SQL.Enabled() {
		return false
	}
	file := cfg.DatabaseFile()
	return cfg.Broker != "sqlite" || file == "" || absolute(file) != absolute(cfg.SQLitePath())
}

func absolute(path string) string {
	if absolute, err := filepath.Abs(path); err == nil {
		return absolute
	}
	return filepath.Clean(path)
}

// strategy builds what the rule asks for, for one scope.
func (s *Service) strategy(ctx context.Context, topic string, scope dedup.Scope, group string) (dedup.Strategy, error) {
	rule, err := RuleFor(s.config, topic, scope.Handler)
	if err != nil {
		return nil, err
	}
	window := time.Duration(s.config.Handler(scope.Handler).Window)
	switch {
	case rule.Strategy == dedup.StrategyNone:
		return dedup.Plain{Publisher: s.broker.Publisher()}, nil
	case rule.Ledger:
		ledger, err := s.openLedger(ctx, window)
		if err != nil {
			return nil, fmt.Errorf("open ledger for strategy %q: %w", rule.Strategy, err)
		}
		strategy := dedup.NewLedgerStrategy(ledger, s.broker.Publisher(), dedup.LedgerOptions{
			Lease:  time.Duration(s.config.Dedup.Lease),
			Logger: s.logger,
		})
		s.closers = append(s.closers, strategy.Close)
		return strategy, nil
	case rule.Strategy == dedup.StrategyInbox && ownDatabase(s.config):
		return s.openInbox(ctx)
	default:
		strategy, err := s.broker.Strategy(rule.Strategy, adapters.StrategyOptions{
			Scope: scope, Group: group, Window: window, Claim: rule.Claim,
		})
		if err != nil {
			return nil, fmt.Errorf("strategy %q on broker %s: %w", rule.Strategy, s.config.Broker, err)
		}
		return strategy, nil
	}
}
