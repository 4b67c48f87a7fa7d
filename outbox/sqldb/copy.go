package sqldb

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Copied is an argument of a statement on PostgreSQL: rows that COPY writes to a table
// before the statement runs, in the same transaction. pgx calls its QueryRewriter with
// the connection, through database/sql too, and takes the argument away.
type Copied struct {
	Table Table
	// Columns are the names, as COPY has them.
	Columns string
	// Encode appends the rows in COPY's binary format, with its header and trailer.
	Encode func(to []byte) []byte
}

var _ pgx.QueryRewriter = Copied{}

// RewriteQuery implements pgx.QueryRewriter. The statement stays as it is.
func (c Copied) RewriteQuery(ctx context.Context, conn *pgx.Conn, query string, args []any) (string, []any, error) {
	if err := c.copy(ctx, conn.PgConn()); err != nil {
		return "", nil, fmt.Errorf("copy rows to %s: %w", c.Table.Name, err)
	}
	return query, args, nil
}

var copyBuffers = sync.Pool{New: func() any { return new([]byte) }}

// maxCopyBuffer is the largest buffer that is kept.
const maxCopyBuffer = 1 << 20

func (c Copied) copy(ctx context.Context, conn *pgconn.PgConn) error {
	buffer := copyBuffers.Get().(*[]byte)
	*buffer = c.Encode((*buffer)[:0])
	into := "COPY " + Postgres.Quote(c.Table) + " (" + c.Columns + ") FROM STDIN BINARY"
	if _, err := conn.CopyFrom(ctx, bytes.NewReader(*buffer), into); err != nil {
		return err // a goroutine of CopyFrom may still be reading the buffer
	}
	if cap(*buffer) <= maxCopyBuffer {
		copyBuffers.Put(buffer)
	}
	return nil
}
