package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
)

// publisher implements message.Publisher.
type publisher struct {
	broker *Broker
	closed atomic.Bool
}

// publication is what one call of Publish, or the outputs of one commit, add to
// one topic.
type publication struct {
	topic string
	rows  []stored
}

// stored is a message as the table has it.
type stored struct {
	uuid     string
	metadata string
	payload  []byte
	created  int64
}

// Publish makes the messages durable, all or none. Concurrent calls share a
// commit.
func (p *publisher) Publish(topic string, messages ...*message.Message) error {
	if p.closed.Load() || p.broker.isClosed() {
		return fmt.Errorf("publish to %q: %w", topic, ErrClosed)
	}
	if len(messages) == 0 {
		return nil
	}
	publication := &publication{topic: topic, rows: make([]stored, len(messages))}
	now := time.Now()
	for i, msg := range messages {
		var err error
		if publication.rows[i], err = p.broker.encode(topic, msg, now); err != nil {
			return err
		}
	}
	if err := failpoint.Hit(failpoint.BeforePublish); err != nil {
		return err
	}
	// Killed before its COMMIT: nothing was published, and the caller was not
	// told otherwise. The contexts of the messages do not count: a publish that
	// was withdrawn half way would have to be explained.
	if err := p.broker.publishes.Do(context.Background(), publication); err != nil {
		return fmt.Errorf("publish %d messages to %q: %w", len(messages), topic, err)
	}
	p.broker.wakes.topic(topic)
	return failpoint.Hit(failpoint.AfterPublish)
}

// Close makes later calls of Publish fail. The broker stays open.
func (p *publisher) Close() error {
	p.closed.Store(true)
	return nil
}

// encode checks a message and turns it into a row.
func (b *Broker) encode(topic string, msg *message.Message, now time.Time) (stored, error) {
	if topic == "" {
		return stored{}, fmt.Errorf("%w: message %s has no topic: return it to one with framework.To, or emit it to one", dedup.ErrBadOutput, msg.UUID)
	}
	if len(msg.Payload) > b.config.MaxPayload {
		return stored{}, fmt.Errorf("%w: the payload of message %s to %q has %d bytes, the limit is %d: send a reference to the data, or raise sqlite.max_payload",
			dedup.ErrBadOutput, msg.UUID, topic, len(msg.Payload), b.config.MaxPayload)
	}
	payload := msg.Payload
	if payload == nil {
		payload = []byte{} // NULL is not a payload
	}
	return stored{uuid: msg.UUID, metadata: encodeMetadata(msg.Metadata, now), payload: payload, created: millis(now)}, nil
}

// insertPublications adds messages to their topics, in the writer's transaction.
func insertPublications(ctx context.Context, tx *sql.Tx, publications []*publication) error {
	// Rows of one topic go in with as few statements as possible, and keep the
	// order of the publications.
	topics := make([]string, 0, 4)
	byTopic := make(map[string][]stored, 4)
	for _, p := range publications {
		if _, known := byTopic[p.topic]; !known {
			topics = append(topics, p.topic)
		}
		byTopic[p.topic] = append(byTopic[p.topic], p.rows...)
	}
	for _, topic := range topics {
		if err := insertRows(ctx, tx, topic, byTopic[topic]); err != nil {
			return err
		}
	}
	return nil
}

func insertRows(ctx context.Context, tx *sql.Tx, topic string, rows []stored) error {
	var id, last int64
	err := tx.QueryRowContext(ctx, `INSERT INTO hapax_topics (name, last) VALUES (?, ?)
		ON CONFLICT (name) DO UPDATE SET last = last + excluded.last RETURNING id, last`, topic, len(rows)).Scan(&id, &last)
	if err != nil {
		return fmt.Errorf("reserve positions in topic %q: %w", topic, err)
	}
	low, _ := span(id)
	position := low + last - int64(len(rows))
	err = insertMany(ctx, tx, `INSERT INTO hapax_messages (position, uuid, metadata, payload, created) VALUES `, len(rows), 5, func(args []any, i int) {
		args[0], args[1], args[2], args[3], args[4] = position+int64(i)+1, rows[i].uuid, rows[i].metadata, rows[i].payload, rows[i].created
	})
	if err != nil {
		return fmt.Errorf("insert messages into topic %q: %w", topic, err)
	}
	return nil
}
