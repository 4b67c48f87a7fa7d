package fault_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
)

// The smallest at-least-once system that a harness can be tried on: a table of
// sends in three partitions, each worked on in order by the one worker that
// holds its lock file, and a "done" column for the acknowledgement.

const partitions = 3

// worker is called with its name, a folder, and "plain" or "once". Plain makes
// the effect and acknowledges afterwards; once does both, and a mark of the
// event's ID, in one transaction.
func worker(ctx context.Context, args []string) int {
	name, folder, once := args[0], args[1], args[2] == "once"
	err := work(ctx, name, folder, once)
	if err != nil && ctx.Err() == nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func work(ctx context.Context, name, folder string, once bool) error {
	db, err := openQueue(ctx, folder)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	deliveries, err := effects.Open(ctx, filepath.Join(folder, "deliveries"))
	if err != nil {
		return err
	}
	defer func() { _ = deliveries.Close() }()
	if err := fault.Ready(ctx); err != nil {
		return err
	}
	partition, err := lockPartition(ctx, folder)
	if err != nil {
		return err
	}
	for {
		number, send, err := next(ctx, db, partition)
		if errors.Is(err, sql.ErrNoRows) {
			<-ctx.Done()
			return nil
		}
		if err != nil {
			return err
		}
		if err := effects.InsertDelivery(ctx, deliveries, fault.Delivery{ID: send.ID, Copy: send.Copy, Consumer: name}); err != nil {
			return err
		}
		effect := fault.Effect{ID: send.ID, Key: send.Key, Seq: send.Seq, Consumer: name}
		if once {
			err = handleOnce(ctx, db, number, effect)
		} else {
			err = handlePlain(ctx, db, number, effect)
		}
		if err != nil {
			return err
		}
	}
}

func handlePlain(ctx context.Context, db *sql.DB, number int64, effect fault.Effect) error {
	if err := effects.Insert(ctx, db, effect); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.AfterHandle); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, `UPDATE queue SET done = 1 WHERE number = ?`, number)
	return err
}

func handleOnce(ctx context.Context, db *sql.DB, number int64, effect fault.Effect) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	mark, err := tx.ExecContext(ctx, `INSERT INTO marks (id) VALUES (?) ON CONFLICT DO NOTHING`, effect.ID)
	if err != nil {
		return err
	}
	if fresh, err := mark.RowsAffected(); err != nil {
		return err
	} else if fresh == 1 {
		if err := effects.Insert(ctx, tx, effect); err != nil {
			return err
		}
	}
	if err := failpoint.Hit(failpoint.AfterHandle); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE queue SET done = 1 WHERE number = ?`, number); err != nil {
		return err
	}
	return tx.Commit()
}

func openQueue(ctx context.Context, folder string) (*sql.DB, error) {
	db, err := effects.Open(ctx, filepath.Join(folder, "queue"))
	if err != nil {
		return nil, err
	}
	for _, statement := range []string{
		`CREATE TABLE IF NOT EXISTS queue (number INTEGER PRIMARY KEY, part INTEGER, id TEXT, key TEXT, seq INTEGER, copy INTEGER, done INTEGER DEFAULT 0)`,
		`CREATE TABLE IF NOT EXISTS marks (id TEXT PRIMARY KEY)`,
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return db, nil
}

func enqueue(ctx context.Context, db *sql.DB, send fault.Send) error {
	part := int(send.Key[len(send.Key)-1]) % partitions
	_, err := db.ExecContext(ctx, `INSERT INTO queue (part, id, key, seq, copy) VALUES (?, ?, ?, ?, ?)`, part, send.ID, send.Key, send.Seq, send.Copy)
	return err
}

func next(ctx context.Context, db *sql.DB, part int) (number int64, send fault.Send, err error) {
	err = db.QueryRowContext(ctx, `SELECT number, id, key, seq, copy FROM queue WHERE part = ? AND done = 0 ORDER BY number LIMIT 1`, part).
		Scan(&number, &send.ID, &send.Key, &send.Seq, &send.Copy)
	return number, send, err
}

func backlog(ctx context.Context, db *sql.DB) (map[string]int64, error) {
	var count int64
	err := db.QueryRowContext(ctx, `SELECT COUNT(*) FROM queue WHERE done = 0`).Scan(&count)
	return map[string]int64{"backlog": count}, err
}

// lockPartition waits for a partition that nobody works on. The kernel gives a
// killed worker's lock back.
func lockPartition(ctx context.Context, folder string) (int, error) {
	for {
		for part := range partitions {
			file, err := os.Create(filepath.Join(folder, fmt.Sprintf("lock-%d", part)))
			if err != nil {
				return 0, err
			}
			if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
				held = append(held, file)
				return part, nil
			}
			_ = file.Close()
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// held keeps the lock's file from being collected, which would close it.
var held []*os.File
