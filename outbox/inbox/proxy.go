package inbox

import (
	"context"
	"database/sql/driver"
	"errors"
)

// link is what a proxied transaction speaks to: one connection, used by one
// goroutine at a time.
type link interface {
	// allow refuses statements that end or begin the transaction.
	allow(query string) error
	// bound is the context that a statement runs with.
	bound(ctx context.Context) context.Context
	exec(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error)
	query(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error)
	conn() driver.Conn
	// check looks after every statement what became of the transaction, and
	// returns the error that the caller is to see.
	check(err error) error
	// reading notes that rows of a query were opened, or closed.
	reading(change int)
	// guarding is the guard of the transaction that begins.
	guarding() *guard
}

// The types below are a database/sql driver over a connection that others use as
// well. Beginning, committing and rolling back do nothing to it; statements pass
// through.

type connector struct{ link link }

func (c connector) Connect(context.Context) (driver.Conn, error) { return proxyConn(c), nil }
func (c connector) Driver() driver.Driver                        { return proxyDriver{} }

type proxyDriver struct{}

func (proxyDriver) Open(string) (driver.Conn, error) {
	return nil, errors.New("open inbox connection: only a group does that")
}

type proxyConn struct{ link link }

func (c proxyConn) Begin() (driver.Tx, error) { return c.link.guarding(), nil }
func (c proxyConn) Close() error              { return nil }

func (c proxyConn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	return c.link.guarding(), nil
}

func (c proxyConn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// PrepareContext implements driver.ConnPrepareContext.
func (c proxyConn) PrepareContext(ctx context.Context, query string) (stmt driver.Stmt, err error) {
	if err := c.link.allow(query); err != nil {
		return nil, err
	}
	if conn, ok := c.link.conn().(driver.ConnPrepareContext); ok {
		stmt, err = conn.PrepareContext(c.link.bound(ctx), query)
	} else {
		stmt, err = c.link.conn().Prepare(query)
	}
	if err != nil {
		return nil, c.link.check(err)
	}
	return proxyStmt{stmt, c.link}, nil
}

func (c proxyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.link.allow(query); err != nil {
		return nil, err
	}
	result, err := c.link.exec(c.link.bound(ctx), query, args)
	return result, c.link.check(err)
}

func (c proxyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.link.allow(query); err != nil {
		return nil, err
	}
	rows, err := c.link.query(c.link.bound(ctx), query, args)
	return watch(c.link, rows, err)
}

// CheckNamedValue implements driver.NamedValueChecker: what a driver takes beyond
// the standard types, such as slices for arrays, it takes here too.
func (c proxyConn) CheckNamedValue(value *driver.NamedValue) error {
	if checker, ok := c.link.conn().(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(value)
	}
	return driver.ErrSkip
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
	link link
}

func (s proxyStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if err := s.link.allow(""); err != nil {
		return nil, err
	}
	result, err := execStmt(s.link.bound(ctx), s.Stmt, args)
	return result, s.link.check(err)
}

func (s proxyStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if err := s.link.allow(""); err != nil {
		return nil, err
	}
	rows, err := queryStmt(s.link.bound(ctx), s.Stmt, args)
	return watch(s.link, rows, err)
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
