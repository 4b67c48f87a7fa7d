package inbox

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"
)

// The types below are a database/sql driver over the writer's one connection.
// Beginning, committing and rolling back do nothing to it; statements pass
// through, with their context's end cut off (see the package comment).

type connector struct{ session *session }

func (c connector) Connect(context.Context) (driver.Conn, error) { return proxyConn(c), nil }
func (c connector) Driver() driver.Driver                        { return proxyDriver{} }

type proxyDriver struct{}

func (proxyDriver) Open(string) (driver.Conn, error) {
	return nil, errors.New("open inbox connection: only a group does that")
}

type proxyConn struct{ session *session }

func (c proxyConn) Begin() (driver.Tx, error) { return c.session.guard, nil }
func (c proxyConn) Close() error              { return nil }

func (c proxyConn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	return c.session.guard, nil
}

func (c proxyConn) Prepare(query string) (driver.Stmt, error) {
	if err := c.allow(query); err != nil {
		return nil, err
	}
	stmt, err := c.session.raw.Prepare(query)
	if err != nil {
		return nil, c.session.check(err)
	}
	return proxyStmt{stmt, c.session}, nil
}

func (c proxyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.allow(query); err != nil {
		return nil, err
	}
	result, err := c.session.exec(context.WithoutCancel(ctx), query, args)
	return result, c.session.check(err)
}

func (c proxyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.allow(query); err != nil {
		return nil, err
	}
	rows, err := c.session.query(context.WithoutCancel(ctx), query, args)
	return rows, c.session.check(err)
}

// allow refuses statements that end or begin the transaction, by their first
// word. One hidden behind another statement in the same text is not seen here;
// the writer then finds its savepoint gone and fails the group.
func (c proxyConn) allow(query string) error {
	if c.session.lost {
		return ErrRolledBack
	}
	words := strings.Fields(strings.ToUpper(query[:min(len(query), 40)]))
	if len(words) == 0 {
		return nil
	}
	switch strings.TrimRight(words[0], ";") {
	case "BEGIN", "COMMIT", "END":
		return ErrNotYours
	case "ROLLBACK": // a savepoint of the handler's own is its own affair
		if !strings.Contains(strings.ToUpper(query), " TO ") {
			return ErrNotYours
		}
	}
	return nil
}

// Commit implements driver.Tx.
func (g *guard) Commit() error {
	g.misused.Store(true)
	return ErrNotYours
}

// Rollback implements driver.Tx.
func (g *guard) Rollback() error {
	if !g.ending.Load() {
		g.misused.Store(true)
	}
	return nil
}

type proxyStmt struct {
	driver.Stmt
	session *session
}

func (s proxyStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if s.session.lost {
		return nil, ErrRolledBack
	}
	result, err := execStmt(context.WithoutCancel(ctx), s.Stmt, args)
	return result, s.session.check(err)
}

func (s proxyStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if s.session.lost {
		return nil, ErrRolledBack
	}
	rows, err := queryStmt(context.WithoutCancel(ctx), s.Stmt, args)
	return rows, s.session.check(err)
}

// cachedRows gives its statement back to the cache when it is closed.
type cachedRows struct {
	driver.Rows
	done func()
}

func (r *cachedRows) Close() error {
	err := r.Rows.Close()
	if r.done != nil {
		r.done()
		r.done = nil
	}
	return err
}

// ColumnTypeDatabaseTypeName implements driver.RowsColumnTypeDatabaseTypeName.
func (r *cachedRows) ColumnTypeDatabaseTypeName(index int) string {
	if rows, ok := r.Rows.(driver.RowsColumnTypeDatabaseTypeName); ok {
		return rows.ColumnTypeDatabaseTypeName(index)
	}
	return ""
}

func queryStmt(ctx context.Context, stmt driver.Stmt, args []driver.NamedValue) (driver.Rows, error) {
	if stmt, ok := stmt.(driver.StmtQueryContext); ok {
		return stmt.QueryContext(ctx, args)
	}
	return nil, errDriver
}

func execStmt(ctx context.Context, stmt driver.Stmt, args []driver.NamedValue) (driver.Result, error) {
	if stmt, ok := stmt.(driver.StmtExecContext); ok {
		return stmt.ExecContext(ctx, args)
	}
	return nil, errDriver
}

// errDriver: every driver of this decade has the methods with a context.
var errDriver = errors.New("database driver runs no statements with a context")
