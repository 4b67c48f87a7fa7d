package framework_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/handlers"
)

// Bad events: each goes to the dead-letter topic with its reason, and the good
// event behind it is processed. Nothing is lost and nothing loops.
func TestBadEventsAreDeadLettered(t *testing.T) {
	send := func(id, payload string) *message.Message {
		msg := message.NewMessage("", []byte(payload))
		if id != "" {
			msg.Metadata.Set(dedup.MetaEventID, id)
		}
		return msg
	}
	for name, test := range map[string]struct {
		messages []*message.Message
		reason   string
		error    string
	}{
		"undecodable payload": {
			[]*message.Message{send("1", `{"id": 7}`)},
			handlers.ReasonUndecodable,
			`decode json as framework_test.Order at orders@1: json: cannot unmarshal number into Go struct field Order.id of type string; payload starts with "{\"id\": 7}"`,
		},
		"missing ID": {
			[]*message.Message{send("", `{}`)},
			"no event id",
			`identify event: event has no ID: looked for metadata hapax_event_id, ce_id, the broker's own field, the UUID; set one where the event is made, or dedup.id.pointer in the config`,
		},
		"empty ID": {
			[]*message.Message{emptyID()},
			"no event id",
			`identify event: event has no ID: looked for metadata hapax_event_id, ce_id, the broker's own field, the UUID; set one where the event is made, or dedup.id.pointer in the config`,
		},
		"conflict": {
			[]*message.Message{send("1", `{"id":"1"}`), send("1", `{"id":"1","item":"another"}`)},
			"conflict",
			`event "1": event ID was used before with another payload`,
		},
		"permanent error": {
			[]*message.Message{send("1", `{"id":"refused"}`)},
			handlers.ReasonPermanent,
			`no such customer`,
		},
		"retries exhausted": {
			[]*message.Message{send("1", `{"id":"failing"}`)},
			handlers.ReasonExhausted,
			`gave up after 3 attempts: out of stock`,
		},
		"panic": {
			[]*message.Message{send("1", `{"id":"panicking"}`)},
			handlers.ReasonExhausted,
			`gave up after 3 attempts: handler panicked: no luck`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			service := newService(t, parse(t, ""))
			framework.Handle(service, "orders", func(_ context.Context, order Order) (Shipment, error) {
				switch order.ID {
				case "refused":
					return Shipment{}, handlers.Permanent(errors.New("no such customer"))
				case "failing":
					return Shipment{}, errors.New("out of stock")
				case "panicking":
					panic("no luck")
				}
				return Shipment{OrderID: order.ID}, nil
			}, framework.To("shipments"))
			require.NoError(t, service.Publisher().Publish("orders", test.messages...))
			stop := start(t, service)
			letter := read(t, service, "orders.dead", 1)[0]
			require.Equal(t, test.reason, letter.Metadata.Get(dedup.MetaDeadReason))
			require.Equal(t, test.error, letter.Metadata.Get(dedup.MetaDeadError))
			require.Equal(t, "orders", letter.Metadata.Get(dedup.MetaDeadTopic))
			require.Equal(t, "fulfilment", letter.Metadata.Get(dedup.MetaDeadService))
			require.NotEmpty(t, letter.Metadata.Get(dedup.MetaDeadPosition))
			require.Equal(t, test.messages[len(test.messages)-1].Payload, letter.Payload)
			if name == "panic" {
				require.Contains(t, letter.Metadata.Get(dedup.MetaDeadStack), "badinput_test.go")
			}
			publish(t, service, "orders", "good", Order{ID: "good"})
			read(t, service, "shipments", 1)
			require.NoError(t, stop())
		})
	}
}

func emptyID() *message.Message {
	msg := message.NewMessage("", []byte(`{}`))
	msg.Metadata = message.Metadata{dedup.MetaEventID: "", "ce_id": ""}
	return msg
}

// A dead letter that is published to its topic again, as a requeue does, is
// processed: burying it left no mark.
func TestARequeuedDeadLetterIsProcessed(t *testing.T) {
	service := newService(t, parse(t, ""))
	runs := &counter{}
	framework.Handle(service, "orders", func(_ context.Context, order Order) (Shipment, error) {
		if runs.add(order.ID) == 1 {
			return Shipment{}, handlers.Permanent(errors.New("no such customer"))
		}
		return Shipment{OrderID: order.ID}, nil
	}, framework.To("shipments"))
	publish(t, service, "orders", "1", Order{ID: "1"})
	stop := start(t, service)
	letter := read(t, service, "orders.dead", 1)[0]
	require.NoError(t, service.Publisher().Publish("orders", letter.Copy()))
	read(t, service, "shipments", 1)
	require.NoError(t, stop())
}

func TestAnOversizedMessageIsRefused(t *testing.T) {
	cfg := parse(t, "")
	cfg.SQLite.MaxPayload = 1 << 10
	service := newService(t, cfg)
	defer service.Close()
	err := service.Publisher().Publish("orders", message.NewMessage("u", make([]byte, 1025)))
	require.ErrorIs(t, err, dedup.ErrBadOutput)
	require.ErrorContains(t, err, "1025 bytes")
	require.ErrorContains(t, err, "1024")
}

// An output that the broker will never take is the event's fault, not an outage:
// it is dead-lettered, and does not come back for ever.
func TestAnOversizedOutputIsDeadLettered(t *testing.T) {
	cfg := parse(t, "")
	cfg.SQLite.MaxPayload = 1 << 10
	service := newService(t, cfg)
	framework.Handle(service, "orders", func(context.Context, Order) (Shipment, error) {
		return Shipment{OrderID: strings.Repeat("x", 2000)}, nil
	}, framework.To("shipments"))
	publish(t, service, "orders", "1", Order{ID: "1"})
	stop := start(t, service)
	letter := read(t, service, "orders.dead", 1)[0]
	require.Contains(t, letter.Metadata.Get(dedup.MetaDeadError), "output cannot be published")
	require.NoError(t, stop())
}

// An output without a topic is a mistake in the program; the event is not lost.
func TestAnOutputWithoutTopicIsDeadLettered(t *testing.T) {
	service := newService(t, parse(t, ""))
	framework.Handle(service, "orders", func(*message.Message) ([]*message.Message, error) {
		return message.Messages{message.NewMessage("u", nil)}, nil
	})
	publish(t, service, "orders", "1", Order{ID: "1"})
	stop := start(t, service)
	letter := read(t, service, "orders.dead", 1)[0]
	require.Contains(t, letter.Metadata.Get(dedup.MetaDeadError), "return it to one with framework.To")
	require.NoError(t, stop())
}

// What is wrong with a program or its surroundings is one clear error at start.
func TestStartErrors(t *testing.T) {
	nothing := func(*framework.Service) {}
	ship := func(s *framework.Service) {
		framework.Handle(s, "orders", func(context.Context, Order) error { return nil })
	}
	missing := filepath.Join(t.TempDir(), "missing", "hapax.db")
	folder := t.TempDir()
	garbage := filepath.Join(t.TempDir(), "garbage.db")
	require.NoError(t, os.WriteFile(garbage, []byte(strings.Repeat("not a database ", 100)), 0o600))
	for name, test := range map[string]struct {
		change func(*config.Config)
		setup  func(*framework.Service)
		error  string
	}{
		"no handlers": {nil, nothing, "service has no handlers: call framework.Handle before Run"},
		"two handlers of one name": {nil, func(s *framework.Service) { ship(s); ship(s) },
			`handler name "orders" is used for topic "orders" and topic "orders": give one of them framework.Name`},
		"empty topic": {nil, func(s *framework.Service) { framework.Handle(s, "", func(context.Context, Order) error { return nil }) },
			`handler "" of topic "": the topic is empty`},
		"a name that is no text": {nil, func(s *framework.Service) {
			framework.Handle(s, "orders", func(context.Context, Order) error { return nil }, framework.Name("caf\xe9"))
		}, `handler "caf\xe9" of topic "orders": the name is not UTF-8`},
		"a topic that is no text": {nil, func(s *framework.Service) {
			framework.Handle(s, "caf\xe9", func(context.Context, Order) error { return nil }, framework.Name("orders"))
		}, `handler "orders" of topic "caf\xe9": the topic is not UTF-8`},
		"wrong signature": {nil, func(s *framework.Service) { framework.Handle(s, "orders", func(Order) {}) },
			`handler "orders" of topic "orders": adapt handler: `},
		"values that go nowhere": {nil, func(s *framework.Service) {
			framework.Handle(s, "orders", func(context.Context, Order) ([]Shipment, error) { return nil, nil })
		}, `handler "orders" of topic "orders": it returns framework_test.Shipment, but has no topic for it: add framework.To(topic), or return only an error and send with handlers.Emit`},
		"broker of another version": {func(c *config.Config) { c.Broker = "carrier-pigeon" }, ship,
			`this version has no adapter for broker "carrier-pigeon": expected sqlite, kafka, rabbitmq, redis or sqs`},
		"broker down: its folder is missing": {func(c *config.Config) { c.SQLite.Path = missing }, ship,
			"open database " + missing + ": the file cannot be opened or created: check that the folder exists and is writable"},
		"not a database": {func(c *config.Config) { c.SQLite.Path = garbage }, ship,
			"open database " + garbage + ": the file is not a SQLite database, or is damaged: move it away, or restore it from a backup"},
		"a folder for a file": {func(c *config.Config) { c.SQLite.Path = folder }, ship,
			"open database " + folder + ": the file cannot be opened or created"},
		"volatile ledger": {func(c *config.Config) { c.Dedup.Strategy = "consumer"; c.Dedup.Ledger.Store = "memory" }, ship,
			"dedup.ledger.store is memory, which forgets every event when the process ends: choose sqlite, or set dedup.allow_volatile: true if repeated effects after a restart are acceptable"},
		"claim that the strategy has not": {func(c *config.Config) { c.Dedup.Strategy = "consumer"; c.Dedup.Claim = "optimistic" }, ship,
			`claim is "optimistic": strategy "consumer" supports ["pessimistic"] only`},
		"admin address in use": {func(c *config.Config) { c.Admin.Address = "256.0.0.1:1" }, ship,
			`admin.address "256.0.0.1:1"`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := parse(t, "")
			if test.change != nil {
				test.change(cfg)
			}
			service, err := framework.New(t.Context(), cfg)
			if err == nil {
				test.setup(service)
				err = service.Run(t.Context())
			}
			require.ErrorContains(t, err, test.error)
		})
	}
}

// A file that a newer version of the program has written is refused, not guessed
// at.
func TestANewerSchemaIsRefused(t *testing.T) {
	cfg := parse(t, "")
	service := newService(t, cfg)
	_, err := sqliteDB(t, service).ExecContext(t.Context(), `UPDATE hapax_schema SET version = 99`)
	require.NoError(t, err)
	require.NoError(t, service.Close())
	_, err = framework.New(t.Context(), cfg)
	require.ErrorContains(t, err, "its tables have version 99")
	require.ErrorContains(t, err, "update the program, or use another file")
}

// So is one whose tables were removed.
func TestAMissingTableIsRefused(t *testing.T) {
	cfg := parse(t, "")
	service := newService(t, cfg)
	_, err := sqliteDB(t, service).ExecContext(t.Context(), `DROP TABLE hapax_pending`)
	require.NoError(t, err)
	require.NoError(t, service.Close())
	_, err = framework.New(t.Context(), cfg)
	require.ErrorContains(t, err, "no such table: hapax_pending")
	require.ErrorContains(t, err, "restore the file from a backup, or use another")
}

// A topic that nobody has published to is no error on the embedded broker: the
// service waits, and the first message finds it.
func TestAnUnknownTopicAppearsWithItsFirstMessage(t *testing.T) {
	service := newService(t, parse(t, ""))
	framework.Handle(service, "unheard-of", func(context.Context, Order) (Shipment, error) { return Shipment{}, nil }, framework.To("shipments"))
	stop := start(t, service)
	publish(t, service, "unheard-of", "1", Order{ID: "1"})
	read(t, service, "shipments", 1)
	require.NoError(t, stop())
}

// Run ends with the problems of the configuration, each with its place.
func TestInvalidConfiguration(t *testing.T) {
	_, err := config.Parse("hapax.yaml", []byte("service: fulfilment\nsqllite:\n  path: x.db\n"), nil)
	require.EqualError(t, err, `hapax.yaml:2:1: unknown key "sqllite": did you mean "sqlite"?`)
}
