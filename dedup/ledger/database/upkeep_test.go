package database_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/database"
	"github.com/hapax-go/hapax/internal/written"
)

// Whoever reads the ledger's tables in a long transaction, as a backup does, keeps a table
// from being emptied. That waits for its end; calls do not.
func TestCallsDoNotWaitForABackup(t *testing.T) {
	onServers(t, func(t *testing.T, s server) {
		table := s.tables(t)
		ledger := s.open(t, table, database.Config{Upkeep: -1, RunMarks: 1})
		handle := func(name string) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			claimed := []*dedup.Entry{entry(name)}
			require.NoError(t, ledger.Claim(ctx, time.Minute, claimed))
			require.Equal(t, dedup.Fresh, claimed[0].Verdict)
			require.NoError(t, ledger.Complete(ctx, claimed))
		}
		handle("first")
		backup, err := s.connect(t).BeginTx(t.Context(), nil)
		require.NoError(t, err)
		defer func() { _ = backup.Rollback() }()
		for _, table := range ledger.Tables() {
			_, err := backup.Exec(`SELECT 1 FROM ` + table)
			require.NoError(t, err)
		}
		upkeep, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- ledger.Maintain(upkeep) }()
		emptying := map[database.Dialect]string{
			database.Postgres: `SELECT COUNT(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%TRUNCATE ` + table + `%'`,
			database.MySQL:    `SELECT COUNT(*) > 0 FROM information_schema.processlist WHERE state LIKE 'Waiting for table metadata lock%' AND info LIKE 'TRUNCATE TABLE ` + table + `%'`,
		}[s.dialect]
		watch := s.connect(t)
		require.Eventually(t, func() bool {
			waits := false
			require.NoError(t, watch.QueryRow(emptying).Scan(&waits))
			return waits
		}, 20*time.Second, 5*time.Millisecond, "upkeep does not wait for the backup")
		handle("second")
		stop()
		<-ended
		require.NoError(t, backup.Rollback())
		require.NoError(t, ledger.Maintain(t.Context()))
		again := entry("first")
		require.NoError(t, ledger.Claim(t.Context(), time.Minute, []*dedup.Entry{again}))
		require.Equal(t, dedup.Duplicate, again.Verdict)
	})
}

// Upkeep that fails is tried again at its time, however many events are marked meanwhile.
func TestUpkeepThatFailsIsNotHurried(t *testing.T) {
	onServers(t, func(t *testing.T, s server) {
		table, log := s.tables(t), written.Text{}
		_, err := s.connect(t).Exec(`DROP TABLE ` + table + `_packed`)
		require.NoError(t, err)
		ledger := s.open(t, table, database.Config{Upkeep: time.Hour, RunMarks: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		warnings := func() int { return strings.Count(log.String(), "level=WARN") }
		for i := range 100 {
			claimed := []*dedup.Entry{entry(fmt.Sprint(i))}
			require.NoError(t, ledger.Claim(t.Context(), time.Minute, claimed))
			require.NoError(t, ledger.Complete(t.Context(), claimed))
			require.Eventually(t, func() bool { return warnings() > 0 }, 20*time.Second, time.Millisecond, "upkeep does not fail")
		}
		require.NoError(t, ledger.Close())
		require.Equal(t, 1, warnings(), log.String())
	})
}
