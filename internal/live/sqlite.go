package live

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // database/sql finds a driver by its import
)

// sqlitePeer reads the file's public view of its messages.
type sqlitePeer struct{ file string }

func (p sqlitePeer) read(t testing.TB, topic string) (payloads [][]byte, again bool) {
	db, err := sql.Open("sqlite", "file:"+p.file+"?_pragma=busy_timeout(5000)")
	require.NoError(t, err)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT payload FROM hapax_log WHERE topic = ? ORDER BY number`, topic)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var payload []byte
		require.NoError(t, rows.Scan(&payload))
		payloads = append(payloads, payload)
	}
	require.NoError(t, rows.Err())
	return payloads, true
}
