package main

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

func TestAuditFindsDuplicates(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, dialect sqldb.Dialect, dsn string) {
		t.Chdir(t.TempDir())
		require.NoError(t, os.WriteFile("hapax.yaml", []byte(fmt.Sprintf("service: shop\nsql: {dsn: %q}\n", dsn)), 0o600))
		db := sqldbtest.Open(t, dsn, sqldb.Options{})
		for _, statement := range []string{
			`CREATE TABLE charges (order_id VARCHAR(20), kind VARCHAR(20), amount INT)`,
			`INSERT INTO charges VALUES ('1', 'card', 5), ('2', 'card', 5), ('2', 'fee', 1), (NULL, 'card', 7)`,
		} {
			_, err := db.Exec(statement)
			require.NoError(t, err)
		}
		text, err := run(t, "audit", "charges", "--by", "order_id,kind", "--run")
		require.NoError(t, err)
		require.Equal(t, "ids         3\neffects     3\ntoo many    0\nwithout id  1\n", text)

		_, err = db.Exec(`INSERT INTO charges VALUES ('1', 'card', 5), ('1', 'card', 5), ('2', 'fee', 2)`)
		require.NoError(t, err)
		text, err = run(t, "audit", "charges", "--by", "order_id,kind", "--run", "--json")
		require.EqualError(t, err, "3 of 6 effects in charges are too many")
		require.Equal(t, exitFound, exitStatus(err))
		var report auditReport
		require.NoError(t, json.Unmarshal([]byte(text), &report))
		require.Equal(t, auditReport{IDs: 3, Effects: 6, Surplus: 3, Without: 1, Duplicates: []auditDuplicate{
			{ID: []string{"1", "card"}, Effects: 3}, {ID: []string{"2", "fee"}, Effects: 2},
		}}, report)
		text, err = run(t, "audit", "charges", "--by", "order_id", "--run", "--limit", "1")
		require.Equal(t, exitFound, exitStatus(err))
		require.Contains(t, text, "│ 1        │       3 │")
		require.NotContains(t, text, "│ 2 ")

		// What is printed is what a person can run.
		text, err = run(t, "audit", "charges", "--by", "order_id", "--json")
		require.NoError(t, err)
		var queries auditQueries
		require.NoError(t, json.Unmarshal([]byte(text), &queries))
		var ids, effects, surplus int
		require.NoError(t, db.QueryRow(queries.Summary).Scan(&ids, &effects, &surplus))
		require.Equal(t, []int{2, 6, 4}, []int{ids, effects, surplus})

		for _, misspelt := range [][2]string{{"payments", "order_id"}, {"charges", "ordr_id"}, {"charges", "order_id,knd"}} {
			_, err = run(t, "audit", misspelt[0], "--by", misspelt[1], "--run")
			require.ErrorContains(t, err, "check the names of the table and its columns", misspelt)
			require.Equal(t, 1, exitStatus(err))
		}
	})
}

// A variable that is not set is no column: what was printed then was no SQL.
func TestAuditByNothing(t *testing.T) {
	for _, by := range []string{"", "order_id,"} {
		text, err := run(t, "audit", "charges", "--by", by, "--dialect", "sqlite")
		require.ErrorContains(t, err, "audit: ", by)
		require.ErrorContains(t, err, `column`, by)
		require.Empty(t, text, by)
	}
}

// IDs that MySQL takes for equal, because of the column's collation, are those of
// different effects all the same.
func TestAuditTellsIDsApart(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, dialect sqldb.Dialect, dsn string) {
		t.Chdir(t.TempDir())
		require.NoError(t, os.WriteFile("hapax.yaml", []byte(fmt.Sprintf("service: shop\nsql: {dsn: %q}\n", dsn)), 0o600))
		db := sqldbtest.Open(t, dsn, sqldb.Options{})
		collation := map[sqldb.Dialect]string{sqldb.MySQL: "CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", sqldb.SQLite: "COLLATE NOCASE"}[dialect]
		for _, statement := range []string{
			`CREATE TABLE charges (order_id VARCHAR(20) ` + collation + `, number INT, made DATE)`,
			`INSERT INTO charges VALUES ('a1', 1, '2026-01-02'), ('A1', 1, '2026-01-02'), ('a1 ', 1, '2026-01-02'), ('ä1', 1, '2026-01-02'), ('b1', 1, '2026-01-02'), ('b1', 1, '2026-01-02')`,
		} {
			_, err := db.Exec(statement)
			require.NoError(t, err)
		}
		text, err := run(t, "audit", "charges", "--by", "order_id,number,made", "--run", "--json")
		require.EqualError(t, err, "1 of 6 effects in charges are too many")
		var report auditReport
		require.NoError(t, json.Unmarshal([]byte(text), &report))
		require.EqualValues(t, 5, report.IDs)
		require.Len(t, report.Duplicates, 1)
		require.Equal(t, []string{"b1", "1"}, report.Duplicates[0].ID[:2])
		require.Contains(t, report.Duplicates[0].ID[2], "2026-01-02")
	})
}

// IDs may be bytes, which neither a terminal nor JSON can show.
func TestAuditShowsIDsOfBytes(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, dialect sqldb.Dialect, dsn string) {
		t.Chdir(t.TempDir())
		require.NoError(t, os.WriteFile("hapax.yaml", []byte(fmt.Sprintf("service: shop\nsql: {dsn: %q}\n", dsn)), 0o600))
		db := sqldbtest.Open(t, dsn, sqldb.Options{})
		kind := map[sqldb.Dialect]string{sqldb.Postgres: "BYTEA", sqldb.MySQL: "BINARY(4)", sqldb.SQLite: "BLOB"}[dialect]
		_, err := db.Exec(`CREATE TABLE charges (id ` + kind + `, kind VARCHAR(20))`)
		require.NoError(t, err)
		for range 2 {
			for _, id := range []string{"\xff\x00\x1b[", "\xfe\x00\x1b["} {
				_, err = db.Exec(dialect.Rebind(`INSERT INTO charges VALUES (?, 'größe')`), []byte(id))
				require.NoError(t, err)
			}
		}
		text, err := run(t, "audit", "charges", "--by", "id,kind", "--run", "--json")
		require.Equal(t, exitFound, exitStatus(err))
		var report auditReport
		require.NoError(t, json.Unmarshal([]byte(text), &report))
		require.Equal(t, []auditDuplicate{{ID: []string{"0xfe001b5b", "größe"}, Effects: 2}, {ID: []string{"0xff001b5b", "größe"}, Effects: 2}}, report.Duplicates)
		text, err = run(t, "audit", "charges", "--by", "id", "--run")
		require.Equal(t, exitFound, exitStatus(err))
		require.Contains(t, text, "0xff001b5b")
		require.NotContains(t, text, "\x1b[")
	})
}

func TestAuditPrintsForADialect(t *testing.T) {
	t.Chdir(t.TempDir())
	for dialect, want := range map[string]string{
		"postgres": `FROM "billing"."charges" WHERE "order_id" IS NOT NULL`, "mysql": "FROM `billing`.`charges` WHERE `order_id` IS NOT NULL",
	} {
		text, err := run(t, "audit", "billing.charges", "--by", "order_id", "--dialect", dialect)
		require.NoError(t, err)
		require.Contains(t, text, want)
	}
	for want, arguments := range map[string][]string{
		`required flag(s) "by" not set`:                    {"charges"},
		`column identifier "x; DROP TABLE y" is not valid`: {"charges", "--dialect", "mysql", "--by", "x; DROP TABLE y"},
		`table identifier "a b" is not valid`:              {"a b", "--dialect", "mysql", "--by", "x"},
		`SQLite has no schemas`:                            {"a.b", "--dialect", "sqlite", "--by", "x"},
		`expected postgres, mysql or sqlite`:               {"charges", "--by", "x", "--dialect", "oracle"},
		`limit is 0, expected at least 1`:                  {"charges", "--by", "x", "--dialect", "mysql", "--limit", "0"},
		`--dialect is for printing`:                        {"charges", "--by", "x", "--dialect", "mysql", "--run"},
	} {
		_, err := run(t, append([]string{"audit"}, arguments...)...)
		require.ErrorContains(t, err, want)
	}
}
