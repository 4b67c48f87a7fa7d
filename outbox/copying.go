package outbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// minCopied is from how many rows on COPY is faster: it takes a round trip more.
const minCopied = 16

func (c Config) copies(rows int) bool {
	return c.Copy && c.Dialect == sqldb.Postgres && rows >= minCopied
}

// copied are rows that PostgreSQL's COPY writes: for a row of a kilobyte a third of
// what an INSERT with a parameter for each value takes of the client, which copies all
// of them twice into buffers that it throws away.
//
// It is an argument of the statement that follows. pgx calls its QueryRewriter with the
// connection before it runs a statement, through database/sql too, and so within the
// caller's transaction.
type copied struct {
	table sqldb.Table
	rows  []row
}

var _ pgx.QueryRewriter = copied{}

// RewriteQuery implements pgx.QueryRewriter. The statement stays as it is.
func (c copied) RewriteQuery(ctx context.Context, conn *pgx.Conn, query string, args []any) (string, []any, error) {
	if err := c.copy(ctx, conn.PgConn()); err != nil {
		return "", nil, fmt.Errorf("copy %d rows: %w", len(c.rows), err)
	}
	return query, args, nil
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxBuffer is the largest buffer that is kept.
const maxBuffer = 1 << 20

func (c copied) copy(ctx context.Context, conn *pgconn.PgConn) error {
	buffer := buffers.Get().(*[]byte)
	*buffer = c.encode((*buffer)[:0])
	into := "COPY " + sqldb.Postgres.Quote(c.table) + " (" + columnNames + ") FROM STDIN BINARY"
	if _, err := conn.CopyFrom(ctx, bytes.NewReader(*buffer), into); err != nil {
		return err // a goroutine of CopyFrom may still be reading the buffer
	}
	if cap(*buffer) <= maxBuffer {
		buffers.Put(buffer)
	}
	return nil
}

// encode appends the rows in COPY's binary format (PostgreSQL documentation, COPY,
// "Binary Format").
func (c copied) encode(to []byte) []byte {
	to = append(to, "PGCOPY\n\xff\r\n\x00"+"\x00\x00\x00\x00"+"\x00\x00\x00\x00"...) // no flags, no extension
	for _, r := range c.rows {
		to = binary.BigEndian.AppendUint16(to, columns)
		to = binary.BigEndian.AppendUint32(to, 2)
		to = binary.BigEndian.AppendUint16(to, uint16(r.shard))
		for _, text := range []string{r.topic, r.key, r.eventID, r.uuid, r.metadata} {
			to = append(binary.BigEndian.AppendUint32(to, uint32(len(text))), text...)
		}
		to = append(binary.BigEndian.AppendUint32(to, uint32(len(r.payload))), r.payload...)
	}
	return append(to, 0xff, 0xff)
}
