package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	watermillsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// maxRows is the most rows of one statement. PostgreSQL takes 65,535 parameters;
// beyond some dozens of rows there is nothing to gain. maxBytes bounds what is in them:
// MySQL and MariaDB cut a connection off that sends a statement larger than
// max_allowed_packet, which is 4 or 16 MiB where nobody set it, and bytes that are
// written into its text may be two there.
const (
	maxRows  = 64
	maxBytes = 1 << 20
)

// fitting is how many of the rows one statement takes: one at least.
func fitting(rows []row) int {
	size := 0
	for i, r := range rows[:min(len(rows), maxRows)] {
		if size += r.size(); i > 0 && size > maxBytes {
			return i
		}
	}
	return min(len(rows), maxRows)
}

// Publisher is a Watermill message.Publisher on a transaction of the caller. Make
// one for each transaction: it costs nothing.
type Publisher struct {
	ctx    context.Context
	tx     Executor
	config Config
}

// NewPublisher returns a publisher whose messages leave if and only if tx commits.
// Statements run under ctx, and its trace goes on with messages that carry none.
func NewPublisher(ctx context.Context, tx Executor, config Config) (*Publisher, error) {
	if tx == nil {
		return nil, errNoTransaction
	}
	config, err := config.Resolve()
	if err != nil {
		return nil, err
	}
	return &Publisher{ctx: ctx, tx: tx, config: config}, nil
}

// Publish writes messages to the outbox, in this order. A message without an event
// ID gets one, its UUID or else a new one, which stays the same however often the
// row is published. The messages themselves are not changed.
//
// dedup.ErrBadOutput: a message can never be published, and nothing was written.
// After any other error the transaction must be rolled back.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	outputs := make([]dedup.Output, len(messages))
	for i, msg := range messages {
		outputs[i] = dedup.Output{Topic: topic, Message: msg}
	}
	return p.Store(outputs)
}

// Store is Publish for messages to several topics: with as few statements as
// possible, in this order.
func (p *Publisher) Store(outputs []dedup.Output) error {
	rows := make([]row, len(outputs))
	for i, output := range outputs {
		var err error
		if rows[i], err = encode(p.ctx, output.Topic, output.Message); err != nil {
			return fmt.Errorf("publish to outbox: %w", err)
		}
	}
	for len(rows) > 0 {
		n := fitting(rows)
		if p.config.copies(len(rows)) {
			n = len(rows)
		}
		if err := p.insert(rows[:n], outputs[:n]); err != nil {
			return err
		}
		rows, outputs = rows[n:], outputs[n:]
	}
	return nil
}

func (p *Publisher) insert(rows []row, outputs []dedup.Output) error {
	inner, err := watermillsql.NewPublisher(bound{p.ctx, p.tx}, watermillsql.PublisherConfig{SchemaAdapter: insertion{p.config, rows}}, nil)
	if err != nil {
		return fmt.Errorf("publish to outbox: %w", err)
	}
	messages := make([]*message.Message, len(outputs))
	for i, output := range outputs {
		messages[i] = output.Message
	}
	// Watermill has a table for each topic, and refuses topics that do not make
	// good names of tables. Here the topic is a column, so what it gets to see
	// is the table.
	err = inner.Publish(p.config.Table.Name, messages...)
	if sqldb.IsMissing(err) {
		return fmt.Errorf("publish to outbox: table %s is missing, or older than this version: run `hapax migrate up`: %w", p.config.Dialect.Quote(p.config.Table), err)
	}
	if err != nil {
		return fmt.Errorf("publish to outbox: %w", err)
	}
	return nil
}

// Close does nothing: the transaction is the caller's.
func (p *Publisher) Close() error { return nil }

// Store writes outputs to the outbox in a transaction; see Publisher.Store.
func (c Config) Store(ctx context.Context, tx *sql.Tx, outputs []dedup.Output) error {
	if len(outputs) == 0 {
		return nil
	}
	publisher, err := NewPublisher(ctx, tx, c)
	if err != nil {
		return err
	}
	return publisher.Store(outputs)
}

// Check reports outputs that can never be stored, as dedup.ErrBadOutput.
func (c Config) Check(outputs []dedup.Output) error {
	for _, output := range outputs {
		if err := check(output.Topic, output.Message); err != nil {
			return err
		}
	}
	return nil
}

// bound is an Executor under the caller's context, for a publisher that knows
// none. Only ExecContext is ever called.
type bound struct {
	ctx context.Context
	Executor
}

var errOnlyWrites = errors.New("the outbox's publisher only writes")

// ExecContext implements watermillsql.ContextExecutor.
func (b bound) ExecContext(_ context.Context, query string, args ...any) (sql.Result, error) {
	return b.Executor.ExecContext(b.ctx, query, args...)
}

// Exec implements watermillsql.Executor.
func (b bound) Exec(query string, args ...any) (sql.Result, error) {
	return b.Executor.ExecContext(b.ctx, query, args...)
}

// Query implements watermillsql.Executor.
func (b bound) Query(string, ...any) (*sql.Rows, error) { return nil, errOnlyWrites }

// QueryContext implements watermillsql.ContextExecutor.
func (b bound) QueryContext(context.Context, string, ...any) (*sql.Rows, error) {
	return nil, errOnlyWrites
}

// QueryRow implements watermillsql.Executor.
func (b bound) QueryRow(string, ...any) *sql.Row { return nil }

// QueryRowContext implements watermillsql.ContextExecutor.
func (b bound) QueryRowContext(context.Context, string, ...any) *sql.Row { return nil }
