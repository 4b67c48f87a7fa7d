package schema

import (
	"context"

	"github.com/pressly/goose/v3/database"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// newStore returns goose's store of versions, and the name of its table. Goose writes that
// into its statements as it is, and looks for it among the tables that are there. So the
// statements get a schema's name quoted, for it may be a reserved word.
func newStore(dialect sqldb.Dialect, table sqldb.Table) (store database.Store, name string, err error) {
	kind := map[sqldb.Dialect]database.Dialect{
		sqldb.Postgres: database.DialectPostgres, sqldb.MySQL: database.DialectMySQL, sqldb.SQLite: database.DialectSQLite3,
	}[dialect]
	if table.Schema == "" {
		store, err = database.NewStore(kind, table.Name)
		return store, table.Name, err
	}
	name = table.Schema + "." + table.Name
	plain, err := database.NewStore(kind, name)
	if err != nil {
		return nil, "", err
	}
	quoted, err := database.NewStore(kind, dialect.Quote(table))
	return schemaStore{quoted, plain.(seeing)}, name, err
}

// schemaStore is a store whose table is in a schema.
type schemaStore struct {
	database.Store
	plain seeing
}

// seeing is what goose asks of its stores beyond their interface.
type seeing interface {
	TableExists(context.Context, database.DBTxConn) (bool, error)
}

// TableExists is called by goose.
func (s schemaStore) TableExists(ctx context.Context, db database.DBTxConn) (bool, error) {
	return s.plain.TableExists(ctx, db)
}
