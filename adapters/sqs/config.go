package sqs

import (
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Config configures a Broker. The zero value reaches Amazon SQS in the region and
// with the credentials of the AWS environment, and creates no queue.
type Config struct {
	// Region of the queues. "": from the AWS environment.
	Region string
	// Endpoint replaces the service's address, for emulators and private
	// endpoints. "": that of the region.
	Endpoint string
	// Credentials sign the requests. nil: the SDK's default chain (environment,
	// shared files, container and instance roles).
	Credentials aws.CredentialsProvider
	// HTTPClient sends the requests. nil: a client of the broker's own.
	HTTPClient aws.HTTPClient

	// QueuePrefix goes before every queue's name: letters, digits, "-" and "_".
	QueuePrefix string
	// FIFO makes every topic's queue a FIFO queue: ".fifo" is appended to its
	// name. Without it those topics are FIFO whose name ends in ".fifo".
	FIFO bool
	// Create makes queues that do not exist. Without it they are an error.
	Create bool
	// Compress makes payloads smaller on the wire (gzip); only Hapax reads them.
	Compress bool

	// VisibilityTimeout is how long a message that was received stays hidden
	// from others without a heartbeat, in whole seconds, 1s to 12h. Default 30s.
	VisibilityTimeout time.Duration
	// WaitTime is how long a receive waits for messages, in whole seconds, at
	// most 20s. Closing a subscription takes as long when nothing arrives, or
	// until its DrainTimeout. Default 20s; negative: it does not wait, which
	// costs more requests.
	WaitTime time.Duration
	// Workers is how many receives, and how many batches of sends and of
	// deletes, run at once, each for one queue. Default 4.
	Workers int
	// Timeout bounds one request, waiting for messages not counted. Default 10s.
	Timeout time.Duration
	// Retry is how long a send is tried again when the service does not answer
	// or throttles, before Publish reports it. Default 20s.
	Retry time.Duration

	// DedupWindow is how long marks last; a subscription to a queue that keeps
	// messages longer warns. 0: no warning.
	DedupWindow time.Duration
	// Logger reports retries, lost messages and dead letters. Default
	// slog.Default().
	Logger *slog.Logger
}

const (
	maxVisibility = 12 * time.Hour
	maxWait       = 20 * time.Second
)

var legalPrefix = regexp.MustCompile(`^[A-Za-z0-9_-]{0,40}$`)

func (c *Config) complete() error {
	if c.VisibilityTimeout == 0 {
		c.VisibilityTimeout = 30 * time.Second
	}
	if c.WaitTime == 0 {
		c.WaitTime = maxWait
	}
	c.WaitTime = max(c.WaitTime, 0)
	if c.Workers == 0 {
		c.Workers = 4
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Retry == 0 {
		c.Retry = 20 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	switch {
	case c.VisibilityTimeout < time.Second || c.VisibilityTimeout > maxVisibility || c.VisibilityTimeout%time.Second != 0:
		return fmt.Errorf("configure sqs broker: visibility timeout is %s, expected whole seconds from 1s to 12h", c.VisibilityTimeout)
	case c.WaitTime > maxWait || c.WaitTime%time.Second != 0:
		return fmt.Errorf("configure sqs broker: wait time is %s, expected whole seconds up to 20s", c.WaitTime)
	case c.Workers < 0 || c.Timeout < 0 || c.Retry < 0:
		return fmt.Errorf("configure sqs broker: workers are %d, timeout %s, retry %s, expected none negative", c.Workers, c.Timeout, c.Retry)
	case !legalPrefix.MatchString(c.QueuePrefix):
		return fmt.Errorf("configure sqs broker: queue prefix is %q, expected at most 40 letters, digits, \"-\" and \"_\"", c.QueuePrefix)
	}
	return nil
}
