package handlers_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/handlers"
)

// A plain function becomes a Watermill handler: its input is decoded, what it
// returns is encoded.
func ExampleAdapt() {
	type Order struct{ ID string }
	type Shipment struct{ Order string }
	placeOrder := func(ctx context.Context, o Order) (Shipment, error) {
		return Shipment{Order: o.ID}, nil
	}

	handler, err := handlers.Adapt(placeOrder, handlers.Options{})
	if err != nil {
		panic(err)
	}
	outputs, err := handler.Single(message.NewMessage("1", []byte(`{"ID":"o-1"}`)))
	fmt.Println(handler.Input, "→", handler.Output)
	fmt.Printf("%s %v\n", outputs[0].Payload, err)
	// Output:
	// handlers_test.Order → handlers_test.Shipment
	// {"Order":"o-1"} <nil>
}

// Emit adds outputs to other topics, with a key. They leave with the returned
// ones, or not at all.
func ExampleEmit() {
	type Order struct {
		ID    string
		Items []string
	}
	split := func(ctx context.Context, o Order) error {
		for _, item := range o.Items {
			if err := handlers.Emit(ctx, "shipping.requested", item, handlers.Key(o.ID)); err != nil {
				return err
			}
		}
		return nil
	}

	handler, _ := handlers.Adapt(split, handlers.Options{})
	outputs, _ := handler.Single(message.NewMessage("1", []byte(`{"ID":"o-1","Items":["pen","ink"]}`)))
	for _, output := range outputs {
		fmt.Printf("%s key=%s %s\n", output.Metadata[dedup.MetaTopic], output.Metadata[dedup.MetaKey], output.Payload)
	}
	// Output:
	// shipping.requested key=o-1 pen
	// shipping.requested key=o-1 ink
}

// A wrong function is refused when it is registered.
func ExampleAdapt_refused() {
	_, err := handlers.Adapt(func(id string) error { return nil }, handlers.Options{})
	fmt.Println(err)
	// Output:
	// adapt handler: found func(string) error: it has 1 parameters, expected context.Context and T; accepted forms are:
	//   func(context.Context, T) error
	//   func(context.Context, T) (Out, error)
	//   func(context.Context, T) ([]Out, error)
	//   func(context.Context, []T) error                      (batch)
	//   func(*message.Message) ([]*message.Message, error)
	//   func(*message.Message) error
	// where T and Out are types of your own, or *message.Message
}

// The error a handler returns steers what becomes of the event.
func ExampleClassify() {
	for _, err := range []error{
		nil,
		errors.New("connection refused"),
		fmt.Errorf("charge card: %w", handlers.Permanent(errors.New("card is stolen"))),
		handlers.RetryAfter(time.Hour, errors.New("shop is closed")),
		handlers.Skip("a test order"),
	} {
		fmt.Printf("%s: %v\n", handlers.Classify(err), err)
	}
	// Output:
	// processed: <nil>
	// retried: connection refused
	// buried: charge card: card is stolen
	// returned: retry after 1h0m0s: shop is closed
	// skipped: skip event: a test order
}
