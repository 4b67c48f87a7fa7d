package framework_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/handlers"
	"github.com/hapax-go/hapax/outbox/sqldb"
	"github.com/hapax-go/hapax/outbox/sqldb/sqldbtest"
)

// An operator looks marks up, however long it takes. It knows the window of one handler, and
// does not remove what others still need.
func TestAnOperatorLeavesMarksAlone(t *testing.T) {
	dsn := sqldbtest.New(t, sqldb.SQLite)
	cfg := parse(t, fmt.Sprintf("sql: {dsn: %q}\nhandlers: {short: {window: 1h}}\n", dsn))
	service := newService(t, cfg)
	framework.Handle(service, "orders", func(_ context.Context, order Order) error {
		if order.ID == "bad" {
			return handlers.Permanent(errors.New("bad"))
		}
		return nil
	}, framework.Name("short"))
	framework.Handle(service, "orders", func(context.Context, Order) error { return nil }, framework.Name("long"))
	publish(t, service, "orders", "1", Order{ID: "1"})
	publish(t, service, "orders", "2", Order{ID: "bad"})
	db := sqldbtest.Open(t, dsn, sqldb.Options{})
	stop := start(t, service)
	require.Eventually(t, func() bool { return count(t, db, "hapax_inbox") == 3 }, patience, time.Millisecond)
	read(t, service, "orders.dead", 1)
	require.NoError(t, stop())
	// The clock of package synctest begins then.
	begins := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	_, err := db.ExecContext(t.Context(), `UPDATE hapax_inbox SET processed_at = ?`, begins.Add(-2*time.Hour).UnixMilli())
	require.NoError(t, err)

	synctest.Test(t, func(t *testing.T) {
		operator, err := framework.NewOperator(t.Context(), cfg, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		defer func() { require.NoError(t, operator.Close()) }()
		letters := 0
		require.NoError(t, operator.Letters(t.Context(), "orders", func(letter *framework.Letter) (bool, error) {
			letters++
			require.Equal(t, framework.CommittedNo, operator.Committed(t.Context(), letter).State)
			time.Sleep(5 * time.Minute) // somebody thinks about it
			return false, nil
		}))
		require.Equal(t, 1, letters)
	})
	require.Equal(t, 2, count(t, db, "hapax_inbox WHERE handler = 'long'"))
}
