package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

func TestOutbox(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("hapax.yaml", []byte("service: shop\nsql: {dsn: \"file:shop.db\"}\n"), 0o600))
	_, err := run(t, "outbox", "status")
	require.ErrorContains(t, err, "run `hapax migrate up`")

	db, dialect, err := sqldb.Open(t.Context(), "file:shop.db")
	require.NoError(t, err)
	defer db.Close()
	tables, err := schema.New(db, dialect, schema.Names{})
	require.NoError(t, err)
	_, err = tables.Up(t.Context())
	require.NoError(t, err)
	events, err := outbox.NewPublisher(t.Context(), db, outbox.Config{Dialect: dialect})
	require.NoError(t, err)
	for _, id := range []string{"a", "b", "c"} {
		msg := message.NewMessage(id, []byte("{}"))
		msg.Metadata.Set(dedup.MetaKey, "key of "+id)
		require.NoError(t, events.Publish("orders", msg))
	}
	_, err = db.Exec(`UPDATE hapax_outbox SET state = 2, attempts = 10, reason = 'the broker said no' WHERE uuid <> 'a'`)
	require.NoError(t, err)

	text, err := run(t, "outbox", "status")
	require.NoError(t, err)
	for _, part := range []string{"waiting  1, the oldest for ", "parked   2", "the broker said no", "key of b", "key of c", "relays   0"} {
		require.Contains(t, text, part)
	}
	require.NotContains(t, text, "key of a")
	text, err = run(t, "outbox", "status", "--json", "--limit", "1")
	require.NoError(t, err)
	var report outboxReport
	require.NoError(t, json.Unmarshal([]byte(text), &report))
	require.EqualValues(t, 1, report.Waiting)
	require.EqualValues(t, 2, report.Parked)
	require.Len(t, report.Rows, 1)
	require.Equal(t, "b", report.Rows[0].EventID)

	_, err = run(t, "outbox", "status", "--limit", "-1")
	require.EqualError(t, err, "--limit is -1, expected at least 0")

	_, err = run(t, "outbox", "retry")
	require.ErrorContains(t, err, "or --all")
	_, err = run(t, "outbox", "discard", "first")
	require.ErrorContains(t, err, `row "first": expected a number`)
	text, err = run(t, "outbox", "discard", "2")
	require.NoError(t, err)
	require.Equal(t, "discarded 1\n", text)
	text, err = run(t, "outbox", "retry", "1", "3", "--json")
	require.ErrorContains(t, err, "1 of the 2 rows are not parked")
	require.JSONEq(t, `{"retried": 1}`, text)
	_, err = db.Exec(`UPDATE hapax_outbox SET state = 2 WHERE id = 3`)
	require.NoError(t, err)
	text, err = run(t, "outbox", "retry", "3", "3")
	require.NoError(t, err, "a row that is named twice is one row")
	require.Equal(t, "retried 1\n", text)
	text, err = run(t, "outbox", "retry", "--all")
	require.NoError(t, err)
	require.Equal(t, "retried 0\n", text)
	text, err = run(t, "outbox", "status")
	require.NoError(t, err)
	require.Contains(t, text, "waiting  2")
}

// What is missing is named, by a key that can be looked for.
func TestOutboxWithoutADatabase(t *testing.T) {
	file := writeConfig(t, "service: fulfilment\n")
	for _, arguments := range []string{"outbox status", "relay", "migrate status", "audit charges --by id --run"} {
		_, err := run(t, append(strings.Fields(arguments), "-f", file)...)
		require.EqualError(t, err, `sql.dsn: not set, expected a connection string: add dsn: "${DATABASE_URL}" to the sql block`, arguments)
	}
}
