package inbox

import (
	"database/sql/driver"
	"io"
	"reflect"
)

// proxyRows looks after the errors that come with the rows: a server that has sent
// the first of them, or their columns, tells there that it met a deadlock or gave the
// transaction up.
type proxyRows struct {
	driver.Rows
	link link
}

func watch(link link, rows driver.Rows, err error) (driver.Rows, error) {
	if err != nil {
		return rows, link.check(err)
	}
	link.reading(+1)
	return proxyRows{rows, link}, nil
}

// Next implements driver.Rows.
func (r proxyRows) Next(dest []driver.Value) error { return r.checked(r.Rows.Next(dest)) }

// Close implements driver.Rows. It reads what is left.
func (r proxyRows) Close() error {
	r.link.reading(-1)
	return r.checked(r.Rows.Close())
}

func (r proxyRows) checked(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return r.link.check(err)
}

// What a driver's rows have beyond that, these have too.

// HasNextResultSet implements driver.RowsNextResultSet.
func (r proxyRows) HasNextResultSet() bool {
	rows, ok := r.Rows.(driver.RowsNextResultSet)
	return ok && rows.HasNextResultSet()
}

// NextResultSet implements driver.RowsNextResultSet.
func (r proxyRows) NextResultSet() error {
	rows, ok := r.Rows.(driver.RowsNextResultSet)
	if !ok {
		return io.EOF
	}
	return r.checked(rows.NextResultSet())
}

// ColumnTypeDatabaseTypeName implements driver.RowsColumnTypeDatabaseTypeName.
func (r proxyRows) ColumnTypeDatabaseTypeName(index int) string {
	if rows, ok := r.Rows.(driver.RowsColumnTypeDatabaseTypeName); ok {
		return rows.ColumnTypeDatabaseTypeName(index)
	}
	return ""
}

// ColumnTypeScanType implements driver.RowsColumnTypeScanType.
func (r proxyRows) ColumnTypeScanType(index int) reflect.Type {
	if rows, ok := r.Rows.(driver.RowsColumnTypeScanType); ok {
		return rows.ColumnTypeScanType(index)
	}
	return reflect.TypeFor[any]()
}

// ColumnTypeLength implements driver.RowsColumnTypeLength.
func (r proxyRows) ColumnTypeLength(index int) (length int64, ok bool) {
	if rows, ok := r.Rows.(driver.RowsColumnTypeLength); ok {
		return rows.ColumnTypeLength(index)
	}
	return 0, false
}

// ColumnTypeNullable implements driver.RowsColumnTypeNullable.
func (r proxyRows) ColumnTypeNullable(index int) (nullable, ok bool) {
	if rows, ok := r.Rows.(driver.RowsColumnTypeNullable); ok {
		return rows.ColumnTypeNullable(index)
	}
	return false, false
}

// ColumnTypePrecisionScale implements driver.RowsColumnTypePrecisionScale.
func (r proxyRows) ColumnTypePrecisionScale(index int) (precision, scale int64, ok bool) {
	if rows, ok := r.Rows.(driver.RowsColumnTypePrecisionScale); ok {
		return rows.ColumnTypePrecisionScale(index)
	}
	return 0, 0, false
}
