package main

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

func TestDoctorOnSQL(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, dialect sqldb.Dialect, _ string) {
		// Each has a database of its own, with Hapax's tables.
		database := func(t *testing.T) (string, *sql.DB) {
			dsn := sqldbtest.New(t, dialect)
			db := sqldbtest.Open(t, dsn, sqldb.Options{})
			tables, err := schema.New(db, dialect, schema.Names{}.WithDefaults())
			require.NoError(t, err)
			_, err = tables.Up(t.Context())
			require.NoError(t, err)
			return dsn, db
		}
		service := func(t *testing.T, dsn, more string) string {
			return embedded(t, fmt.Sprintf("sql: {dsn: %q%s}\n", dsn, more))
		}
		after := func(statements ...string) func(*testing.T) (string, string) {
			return func(t *testing.T) (string, string) {
				dsn, db := database(t)
				for _, statement := range statements {
					_, err := db.ExecContext(t.Context(), statement)
					require.NoError(t, err)
				}
				return service(t, dsn, ""), "orders"
			}
		}
		// A DSN with one more parameter.
		with := func(parameter string) func(*testing.T) (string, string) {
			return func(t *testing.T) (string, string) {
				dsn, _ := database(t)
				separator := "?"
				if strings.Contains(dsn, "?") {
					separator = "&"
				}
				return service(t, dsn+separator+parameter, ""), "orders"
			}
		}
		planted := []misconfiguration{{
			what: "no tables, and none are to be made", needed: true, check: "sql-schema", says: "the database schema is not current",
			plant: func(t *testing.T) (string, string) {
				return service(t, sqldbtest.New(t, dialect), ", migrate: check"), "orders"
			},
		}}
		const index, copies = "sql-index", "two copies of an event that are handled at once both take effect"
		switch dialect {
		case sqldb.Postgres:
			planted = append(planted,
				misconfiguration{what: "marks without their unique index", plant: after(`ALTER TABLE hapax_inbox DROP CONSTRAINT hapax_inbox_pkey`), check: index, says: copies},
				misconfiguration{what: "commits that do not wait for the disk", plant: with("synchronous_commit=off"), check: "sql-durability", says: "forgets the last commits", runs: true})
		case sqldb.MySQL:
			planted = append(planted,
				misconfiguration{what: "marks without their unique index", plant: after(`DROP TABLE hapax_inbox`, `CREATE TABLE hapax_inbox (id BINARY(16))`), check: index, says: copies},
				misconfiguration{what: "an engine without transactions", plant: after(`DROP TABLE hapax_inbox`, `CREATE TABLE hapax_inbox (id BINARY(16) PRIMARY KEY) ENGINE = MyISAM`), check: "sql-engine", says: "MyISAM"},
				// The service sets the isolation of its own connections; those of a ledger
				// have the server's, or the DSN's.
				misconfiguration{what: "marks that may be rolled back are seen", check: "sql-isolation", says: "READ-UNCOMMITTED", runs: true, plant: func(t *testing.T) (string, string) {
					dsn, _ := database(t)
					return embedded(t, fmt.Sprintf("dedup: {strategy: consumer, ledger: {dsn: %q}}\n", dsn+"&tx_isolation=%27READ-UNCOMMITTED%27")), "orders"
				}},
				misconfiguration{what: "a clock that stands in 2017", plant: with("timestamp=1500000000"), check: "sql-clock", says: "the server's clock differs from this machine's by -", warning: true})
		default:
			planted = append(planted,
				misconfiguration{what: "marks without their unique index", plant: after(`DROP TABLE hapax_inbox`, `CREATE TABLE hapax_inbox (id BLOB)`), check: index, says: copies},
				misconfiguration{what: "commits that do not wait for the disk", plant: with("synchronous=off"), check: "sql-durability", says: "can lose commits", runs: true})
		}
		find(t, planted)

		dsn, _ := database(t)
		found, err := doctor(t, service(t, dsn, ""), "orders")
		require.NoError(t, err)
		for _, check := range []string{"sql-connection", "sql-schema", "sql-index", "sql-durability"} {
			require.Equal(t, "ok", found[check].Status, "%+v", found[check])
		}
		found, err = doctor(t, service(t, sqldbtest.New(t, dialect), ""), "orders")
		require.NoError(t, err)
		require.Equal(t, "not current; migrated at the next start", found["sql-schema"].Found)
	})
}
