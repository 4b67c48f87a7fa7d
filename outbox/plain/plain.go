// Package plain opens the official Watermill adapter for PostgreSQL, as a service
// without Hapax would: for comparisons in benchmarks.
package plain

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	watermillsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
)

// table keeps payloads as they are, instead of as JSON.
func table() watermillsql.DefaultPostgreSQLSchema {
	return watermillsql.DefaultPostgreSQLSchema{GeneratePayloadType: func(string) string { return "BYTEA" }}
}

// Table is the table of a topic, Offsets that of its consumers.
func Table(topic string) string { return table().MessagesTable(topic) }

// Offsets is the table of a topic's consumers.
func Offsets(topic string) string {
	return watermillsql.DefaultPostgreSQLOffsetsAdapter{}.MessagesOffsetsTable(topic)
}

// Publisher opens the official publisher; it creates the tables of its topics.
func Publisher(db *sql.DB) (message.Publisher, error) {
	publisher, err := watermillsql.NewPublisher(db, watermillsql.PublisherConfig{SchemaAdapter: table(), AutoInitializeSchema: true}, watermill.NopLogger{})
	if err != nil {
		return nil, fmt.Errorf("open official publisher: %w", err)
	}
	return publisher, nil
}

// Subscriber opens the official subscriber of a group. It looks for rows every 10
// milliseconds, instead of once a second.
func Subscriber(db *sql.DB, group string) (*watermillsql.Subscriber, error) {
	subscriber, err := watermillsql.NewSubscriber(db, watermillsql.SubscriberConfig{
		ConsumerGroup: group, SchemaAdapter: table(), OffsetsAdapter: watermillsql.DefaultPostgreSQLOffsetsAdapter{},
		InitializeSchema: true, PollInterval: 10 * time.Millisecond,
	}, watermill.NopLogger{})
	if err != nil {
		return nil, fmt.Errorf("open official subscriber: %w", err)
	}
	return subscriber, nil
}
