package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
)

// misconfiguration is one that hapax doctor is to find. The tests that plant them,
// one for each server, are in the files doctor_*_test.go.
type misconfiguration struct {
	what string // in words
	// plant makes it on a server, and returns the config and the topic of a service
	// that would run on it.
	plant func(t *testing.T) (configuration, topic string)
	check string // the name of the finding
	says  string // a part of its problem
	// warning: it makes no guarantee false by itself, so that a service starts.
	warning bool
	// runs: a service that allows it can run all the same.
	runs bool
	// needed: no service can start like this, so that allowing it is not offered.
	needed bool
}

// find plants each misconfiguration, and requires that hapax doctor finds it and
// says what to do; that a service refuses to start for the same reason, unless it is
// only a warning; and that a config which names the check is let.
func find(t *testing.T, planted []misconfiguration) {
	for _, m := range planted {
		t.Run(m.what, func(t *testing.T) {
			configuration, topic := m.plant(t)
			found, err := doctor(t, configuration, topic)
			said := found[m.check]
			status, code := "unsafe", exitFound
			if m.warning {
				status, code = "warning", 0
			}
			require.Equal(t, status, said.Status, "%+v", found)
			require.Contains(t, said.Problem, m.says)
			require.NotEmpty(t, said.Fix)
			require.Equal(t, code, statusOf(err), "%+v", found)
			t.Logf("%s: %s, exit status %d: %s", m.check, said.Status, code, said.Problem)
			if m.warning {
				return
			}
			refused := started(t, configuration, topic)
			require.ErrorContains(t, refused, "check "+m.check)
			require.ErrorContains(t, refused, m.says)
			hint := fmt.Sprintf("add %q to allow", m.check)
			allowing := fmt.Sprintf("%sallow: [%s]\n", configuration, strings.Join(unsafe(found), ", "))
			if m.needed {
				require.NotContains(t, refused.Error(), hint)
				require.ErrorContains(t, started(t, allowing, topic), "no service can start without")
				return
			}
			require.ErrorContains(t, refused, hint)
			found, err = doctor(t, allowing, topic)
			require.NoError(t, err)
			require.Equal(t, "allowed", found[m.check].Status)
			if m.runs {
				require.NoError(t, started(t, allowing, topic))
			}
		})
	}
}

func unsafe(found map[string]diagnosis) (names []string) {
	for name, d := range found {
		if d.Status == "unsafe" {
			names = append(names, name)
		}
	}
	return names
}

// statusOf is the exit status that the process would end with.
func statusOf(err error) int {
	if err == nil {
		return 0
	}
	return exitStatus(err)
}

// started runs a service with a handler of the topic until it takes messages, and
// returns the error that kept it from that.
func started(t *testing.T, configuration, topic string) error {
	t.Helper()
	cfg, err := config.Load(writeConfig(t, configuration+"admin: {enabled: false}\n"), nil)
	if err != nil {
		return err
	}
	service, err := framework.New(t.Context(), cfg, framework.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	framework.Handle(service, topic, func(context.Context, map[string]any) error { return nil })
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- service.Run(ctx) }()
	select {
	case err := <-ran:
		return err
	case <-service.Router().Running():
		stop()
		return <-ran
	}
}

// doctor runs hapax doctor --json on a config.
func doctor(t *testing.T, configuration string, arguments ...string) (map[string]diagnosis, error) {
	t.Helper()
	file := writeConfig(t, configuration)
	text, err := run(t, append([]string{"doctor", "--json", "-f", file}, arguments...)...)
	start, end := strings.Index(text, "["), strings.LastIndex(text, "]")
	require.True(t, start >= 0 && end > start, "no JSON in %q (%v)", text, err)
	var list []diagnosis
	require.NoError(t, json.Unmarshal([]byte(text[start:end+1]), &list))
	byName := map[string]diagnosis{}
	for _, d := range list {
		// The worst of a name counts.
		if known, seen := byName[d.Check]; !seen || worse(d) > worse(known) {
			byName[d.Check] = d
		}
	}
	return byName, err
}

func worse(d diagnosis) int {
	return slices.Index([]string{"ok", "warning", "allowed", "unsafe"}, d.Status)
}

func writeConfig(t *testing.T, configuration string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hapax.yaml")
	require.NoError(t, os.WriteFile(file, []byte(configuration), 0o600))
	return file
}

// uniqueTopic is a name that no run has used: the servers outlive them.
func uniqueTopic() string { return fmt.Sprintf("ops-%x", dedup.NextToken()) }

// embedded is the config of a service on the embedded broker.
func embedded(t *testing.T, more string) string {
	return fmt.Sprintf("service: fulfilment\nsqlite: {path: %q}\n%s", filepath.Join(t.TempDir(), "hapax.db"), more)
}

func TestDoctorOnTheConfig(t *testing.T) {
	plant := func(more string) func(*testing.T) (string, string) {
		return func(t *testing.T) (string, string) { return embedded(t, more), "orders" }
	}
	find(t, []misconfiguration{
		{what: "a window shorter than the longest redelivery", plant: plant("dedup: {window: 10s, lease: 30s}\n"), check: "dedup-window", says: "dedup.window is 10s, but a copy may be handed out again 1m35s after", runs: true},
		{what: "a handler's window that is too short", plant: plant("handlers: {orders: {window: 20s}}\n"), check: "dedup-window", says: "dedup.window is 20s", runs: true},
		{what: "a dot in the service's name", plant: func(t *testing.T) (string, string) {
			return strings.Replace(embedded(t, ""), "service: fulfilment", "service: shop.orders", 1), "orders"
		}, check: "broker-group", says: "each event would reach only one of them", runs: true},
		{what: "a database that is away", plant: plant("sql: {dsn: \"postgres://127.0.0.1:1/shop?sslmode=disable\"}\n"), check: "sql-connection", says: "127.0.0.1", needed: true},
		{what: "no deduplication", plant: plant("dedup: {strategy: none}\n"), check: "dedup-off", says: "every copy takes effect", warning: true},
		{what: "a ledger in memory", plant: plant("dedup: {strategy: consumer, allow_volatile: true, ledger: {store: memory}}\n"), check: "ledger-volatile", says: "forgets when the process ends", warning: true},
	})
}

// Without arguments, what the config says of servers is checked all the same, and no
// handler is made up for a topic.
func TestDoctorWithoutTopics(t *testing.T) {
	for name, c := range map[string]struct{ config, check string }{
		"database": {"sql: {dsn: \"postgres://127.0.0.1:1/shop?sslmode=disable\"}\n", "sql-connection"},
		"ledger":   {"dedup: {strategy: consumer, ledger: {dsn: \"redis://127.0.0.1:1\"}}\n", "ledger-connection"},
		"journal":  {"dedup: {ledger: {dsn: \"redis://127.0.0.1:1\"}}\n", "ledger-connection"},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := doctor(t, embedded(t, c.config))
			require.Equal(t, "unsafe", found[c.check].Status, "%+v", found)
			require.Equal(t, exitFound, statusOf(err))
		})
	}

	output := "topics: {shipments: {name: prod-shipments}}\n"
	found, err := doctor(t, embedded(t, output))
	require.NoError(t, err)
	require.NotContains(t, found, "strategy", "shipments has no handler that we know of")
	require.Equal(t, "warning", found["topics"].Status)
	require.Equal(t, "no topic was checked", found["topics"].Problem)
	require.Contains(t, found["topics"].Fix, "arguments")
	text, err := run(t, "rules", "--explain", "-f", writeConfig(t, embedded(t, output)))
	require.NoError(t, err)
	require.NotContains(t, text, "shipments")

	found, err = doctor(t, embedded(t, "handlers: {orders: {window: 2d}}\n"))
	require.NoError(t, err)
	require.Equal(t, "orders", found["strategy"].About)
	require.NotContains(t, found, "topics")
}

func TestDoctorWithoutABroker(t *testing.T) {
	found, err := doctor(t, "service: fulfilment\nbroker: redis\nredis: {addresses: [\"127.0.0.1:1\"]}\n")
	require.Equal(t, "unsafe", found["broker-connection"].Status)
	require.Equal(t, exitFound, exitStatus(err))

	text, err := run(t, "doctor", "-f", writeConfig(t, embedded(t, "")), "orders")
	require.NoError(t, err)
	require.Contains(t, text, "0 unsafe")
	require.NotContains(t, text, "\x1b", "no colour")

	_, err = run(t, "doctor", "-f", filepath.Join(t.TempDir(), "missing.yaml"))
	require.Equal(t, 1, exitStatus(err))
	require.Equal(t, 3, exitStatus(fmt.Errorf("wrapped: %w", exitError{errors.New("x"), 3})))
}

// An argument that names no topic, as that of an unset variable, is not a check passed.
func TestDoctorRefusesArgumentsWithoutATopic(t *testing.T) {
	file := writeConfig(t, embedded(t, ""))
	for _, command := range [][]string{{"doctor"}, {"rules", "--explain"}} {
		for _, argument := range []string{"", "orders=", "=orders"} {
			_, err := run(t, append(command, "-f", file, argument)...)
			require.EqualError(t, err, fmt.Sprintf("argument %q: expected TOPIC or HANDLER=TOPIC", argument))
			require.Equal(t, 1, exitStatus(err))
		}
		_, err := run(t, append(command, "-f", file, "ship=orders", "ship=returns")...)
		require.EqualError(t, err, `argument "ship=returns": handler ship reads orders already: a handler has one topic`)
		_, err = run(t, append(command, "-f", file, "orders", "orders", "audit=orders")...)
		require.NoError(t, err)
	}
}
