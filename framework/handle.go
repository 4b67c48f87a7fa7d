package framework

import (
	"fmt"
	"time"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/handlers"
	"github.com/hapax-go/hapax/handlers/codec"
)

// registration is one Handle call.
type registration struct {
	topic   string
	name    string
	to      string
	fn      any
	options handlers.Options
	batch   dedup.Batching
	timeout time.Duration
	ident   *dedup.Identity
}

// Handle registers fn for a topic. fn is a plain function in one of these forms,
// for any types T and Out that the codec can decode and encode:
//
//	func(context.Context, T) error
//	func(context.Context, T) (Out, error)
//	func(context.Context, T) ([]Out, error)
//	func(context.Context, []T) error                    // several events at once
//	func(*message.Message) ([]*message.Message, error)  // Watermill's own form
//	func(*message.Message) error
//	func(context.Context, *message.Message) error
//
// Anything wrong with it is reported by Run, together with all else that is
// wrong, before the first message is taken.
func Handle(s *Service, topic string, fn any, options ...HandleOption) {
	r := &registration{topic: topic, name: topic, fn: fn}
	for _, option := range options {
		option(r)
	}
	s.registrations = append(s.registrations, r)
}

// HandleOption configures one handler.
type HandleOption func(*registration)

// To names the topic that returned values go to. A function that returns some needs it,
// unless they are messages, or a middleware of Service.Use names their topic (MetaTopic):
// Run refuses it otherwise. An event for which one comes out without a topic in spite of
// that is dead-lettered, as a mistake that no retry can mend.
func To(topic string) HandleOption { return func(r *registration) { r.to = topic } }

// Name names the handler. It is part of every event's identity and names the
// consumer group, so it must not change while events are about: a renamed
// handler processes everything again. Default: the topic, which is also why two
// handlers of one topic need names.
func Name(name string) HandleOption { return func(r *registration) { r.name = name } }

// Codec decodes the input and encodes the outputs. Default: by type; JSON for
// structs, see codec.Default.
func Codec(chosen codec.Codec) HandleOption {
	return func(r *registration) { r.options.Codec = chosen }
}

// OutputCodec encodes the outputs. Default: that of Codec.
func OutputCodec(chosen codec.Codec) HandleOption {
	return func(r *registration) { r.options.OutputCodec = chosen }
}

// Batch sets how many events a func(context.Context, []T) error takes at once,
// and how long the first waits for others. Defaults 100 and 20ms.
func Batch(size int, wait time.Duration) HandleOption {
	return func(r *registration) { r.batch = dedup.Batching{Size: size, Wait: wait} }
}

// Timeout bounds one run of the handler: its context ends then. Default: the
// config's consumer.handler_timeout, which is no bound. On RabbitMQ it must be less than
// rabbitmq.consumer_timeout.
func Timeout(timeout time.Duration) HandleOption {
	return func(r *registration) { r.timeout = timeout }
}

// Identity says where this handler's events have their ID, instead of the
// config's dedup.id. The hapax command knows the config only: where it names an event
// that the broker gave up, and looks for its mark, it goes by that.
func Identity(identity dedup.Identity) HandleOption {
	return func(r *registration) { r.ident = &identity }
}

// label says which registration an error is about.
func (r *registration) label() string { return fmt.Sprintf("handler %q of topic %q", r.name, r.topic) }
