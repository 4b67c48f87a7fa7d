package outbox

import (
	"database/sql"
	"fmt"

	watermillsql "github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// insertion is watermill-sql's schema of the outbox, for one statement.
type insertion struct {
	config Config
	rows   []row
}

const (
	columns     = 7
	columnNames = "shard, topic, message_key, event_id, uuid, metadata, payload"
)

// InsertQuery implements watermillsql.SchemaAdapter.
//
// On PostgreSQL the statement also notifies the relays, when one of them listens;
// under load none does, because commits with a notification wait for each other.
// A relay may turn its ear here after this statement looked and before the
// transaction commits; then polling finds the rows.
func (i insertion) InsertQuery(string, message.Messages) (watermillsql.Query, error) {
	dialect, table := i.config.Dialect, i.config.Table
	notify := func(channel string) string {
		return fmt.Sprintf("SELECT pg_notify(%s, '') WHERE EXISTS (SELECT 1 FROM %s WHERE listening)", channel, dialect.Quote(table.With("_relays")))
	}
	if i.config.copies(len(i.rows)) {
		// With a parameter pgx prepares the statement, once for each connection.
		return watermillsql.Query{Query: notify("$1"), Args: []any{sqldb.Copied{Table: table, Columns: columnNames, Encode: copied(i.rows).encode}, table.Name}}, nil
	}
	query := fmt.Sprintf("INSERT INTO %s (%s) VALUES %s", dialect.Quote(table), columnNames, dialect.Tuples(1, len(i.rows), columns))
	if dialect == sqldb.Postgres {
		query = fmt.Sprintf("WITH inserted AS (%s) %s", query, notify("'"+table.Name+"'"))
	}
	args := make([]any, 0, len(i.rows)*columns)
	for _, r := range i.rows {
		args = append(args, r.shard, r.topic, r.key, r.eventID, r.uuid, r.metadata, r.payload)
	}
	return watermillsql.Query{Query: query, Args: args}, nil
}

// UnmarshalMessage implements watermillsql.SchemaAdapter for the columns that
// MessageColumns names.
func (insertion) UnmarshalMessage(scanner watermillsql.Scanner) (watermillsql.Row, error) {
	var r watermillsql.Row
	if err := scanner.Scan(&r.Offset, &r.UUID, &r.Metadata, &r.Payload); err != nil {
		return r, err
	}
	metadata, err := decodeMetadata(r.Metadata)
	if err != nil {
		return r, err
	}
	r.Msg = message.NewMessage(original(string(r.UUID)), r.Payload)
	r.Msg.Metadata = metadata
	return r, nil
}

// SelectQuery implements watermillsql.SchemaAdapter with nothing to read: relays
// read an outbox, subscribers do not.
func (insertion) SelectQuery(string, string, watermillsql.OffsetsAdapter) watermillsql.Query {
	return watermillsql.Query{Query: "SELECT 1 WHERE 1 = 0"}
}

// SchemaInitializingQueries implements watermillsql.SchemaAdapter: none, the
// migrations of package schema make the table.
func (insertion) SchemaInitializingQueries(string) []watermillsql.Query { return nil }

// SubscribeIsolationLevel implements watermillsql.SchemaAdapter.
func (insertion) SubscribeIsolationLevel() sql.IsolationLevel { return sql.LevelReadCommitted }

// MessageColumns are what Decode reads.
const MessageColumns = "id, uuid, metadata, payload"

// Decode makes a message of a row's MessageColumns.
func Decode(scanner interface{ Scan(...any) error }) (id int64, msg *message.Message, err error) {
	r, err := insertion{}.UnmarshalMessage(scanner)
	return r.Offset, r.Msg, err
}
