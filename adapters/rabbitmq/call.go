package rabbitmq

import (
	"errors"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// posting is a message on its way to an exchange.
type posting struct {
	key string // for routing
	amqp.Publishing
}

// call is one Publish that waits for its confirms. Guarded by the sender's mu
// until done is closed.
type call struct {
	exchange string
	postings []posting
	deadline time.Time

	open     int   // publishings without an answer
	unrouted int   // publishings returned
	err      error // the first failure
	over     bool
	done     chan struct{}
}

// end lets Publish return.
func (c *call) end(err error) {
	if c.over {
		return
	}
	if c.over = true; c.err == nil {
		c.err = err
	}
	close(c.done)
}

var (
	// errUnknown: the connection ended between the publish and its confirm.
	errUnknown = errors.New("connection lost before the confirm: the messages may be stored or not; publishing them again under the same event IDs is safe")
	errLate    = errors.New("no confirm in time (PublishTimeout): the messages may be stored or not; publishing them again under the same event IDs is safe")
	// errWithheld: the confirms may have come, but not in the order that lets them out.
	errWithheld = errors.New("a message that was published before got no confirm in time (PublishTimeout), and without it no later one counts: the messages may be stored or not; publishing them again under the same event IDs is safe")
)
