package bench

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/errgroup"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// sqliteBatch is how many messages share a transaction in the loop by hand.
const sqliteBatch = 200

// sqliteRaw is what one would write by hand for throughput, without Hapax and
// without deduplication: prepared statements, one transaction a batch, one writer.
type sqliteRaw struct{ env Env }

func openSQLiteRaw(_ context.Context, env Env) (Lane, error) { return &sqliteRaw{env}, nil }

// Close implements Lane.
func (l *sqliteRaw) Close() error { return nil }

// Round implements Lane.
func (l *sqliteRaw) Round(ctx context.Context, load Load, meter *Meter) (counts Counts, err error) {
	defer os.RemoveAll(l.env.Folder)
	if err := os.Mkdir(l.env.Folder, 0o755); err != nil {
		return counts, fmt.Errorf("create folder for a round: %w", err)
	}
	db, err := sqldb.OpenSQLite(ctx, filepath.Join(l.env.Folder, "round.db"), sqldb.Full)
	if err != nil {
		return counts, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	queue, err := newQueue(ctx, db)
	if err != nil {
		return counts, fmt.Errorf("prepare queue: %w", err)
	}
	w := &watch{produce: l.env.Produce}
	if load.pace == nil {
		if err := publish(ctx, queue, load, l.env.Payload); err != nil {
			return counts, err
		}
	}
	meter.Start()
	w.begin(load)
	both, shared := errgroup.WithContext(ctx)
	if load.pace != nil {
		both.Go(func() error { return publish(shared, queue, load, l.env.Payload) })
	}
	both.Go(func() error { return queue.consume(shared, w, load) })
	err = both.Wait()
	meter.Stop()
	if err != nil {
		return counts, err
	}
	counts.Handled = int(w.handled.Load())
	counts.Outputs, _, err = countRows(ctx, db, `SELECT count(*), 0 FROM outputs`)
	return counts, err
}

// queue is a table as a queue, and one for outputs. It implements
// message.Publisher for the former.
type queue struct {
	db *sql.DB
	// writing: SQLite has one writer; who waits here is woken at once, who waits
	// for SQLite's lock sleeps and asks again.
	writing sync.Mutex
	arrived chan struct{}

	claim, remove      *sql.Stmt
	insert, insertMany map[string]*sql.Stmt // by table: one row, sqliteBatch rows
}

func newQueue(ctx context.Context, db *sql.DB) (*queue, error) {
	db.SetMaxOpenConns(1)
	q := &queue{db: db, arrived: make(chan struct{}, 1), insert: map[string]*sql.Stmt{}, insertMany: map[string]*sql.Stmt{}}
	var failure error
	prepare := func(text string) *sql.Stmt {
		statement, err := db.PrepareContext(ctx, text)
		failure = errors.Join(failure, err)
		return statement
	}
	for _, table := range []string{"inputs", "outputs"} {
		_, err := db.ExecContext(ctx, `CREATE TABLE `+table+` (id INTEGER PRIMARY KEY, uuid TEXT NOT NULL, metadata TEXT NOT NULL, payload BLOB NOT NULL) STRICT`)
		failure = errors.Join(failure, err)
		text := `INSERT INTO ` + table + ` (uuid, metadata, payload) VALUES (?,?,?)`
		q.insert[table] = prepare(text)
		q.insertMany[table] = prepare(text + strings.Repeat(`,(?,?,?)`, sqliteBatch-1))
	}
	q.claim = prepare(`SELECT id, uuid, metadata, payload FROM inputs ORDER BY id LIMIT ?`)
	q.remove = prepare(`DELETE FROM inputs WHERE id <= ?`)
	return q, failure
}

// transact runs work in a transaction.
func (q *queue) transact(ctx context.Context, work func(*sql.Tx) error) error {
	q.writing.Lock()
	defer q.writing.Unlock()
	tx, err := q.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // no-op after Commit
	if err := work(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	return nil
}

// Publish implements message.Publisher.
func (q *queue) Publish(_ string, messages ...*message.Message) error {
	ctx := context.Background()
	err := q.transact(ctx, func(tx *sql.Tx) error { return q.add(ctx, tx, "inputs", messages) })
	select {
	case q.arrived <- struct{}{}:
	default:
	}
	return err
}

// Close implements message.Publisher.
func (q *queue) Close() error { return nil }

func (q *queue) add(ctx context.Context, tx *sql.Tx, table string, messages []*message.Message) error {
	args := make([]any, 0, 3*len(messages))
	for _, msg := range messages {
		metadata, err := json.Marshal(msg.Metadata)
		if err != nil {
			return fmt.Errorf("encode metadata: %w", err)
		}
		args = append(args, msg.UUID, string(metadata), []byte(msg.Payload))
	}
	if len(messages) == sqliteBatch {
		if _, err := tx.StmtContext(ctx, q.insertMany[table]).ExecContext(ctx, args...); err != nil {
			return fmt.Errorf("insert into %s: %w", table, err)
		}
		return nil
	}
	statement := tx.StmtContext(ctx, q.insert[table])
	for ; len(args) > 0; args = args[3:] {
		if _, err := statement.ExecContext(ctx, args[:3]...); err != nil {
			return fmt.Errorf("insert into %s: %w", table, err)
		}
	}
	return nil
}

// consume handles the load: claim, handle, insert the outputs, delete, commit.
func (q *queue) consume(ctx context.Context, w *watch, load Load) error {
	for done := 0; done < load.Deliveries(); {
		var batch []*message.Message
		err := q.transact(ctx, func(tx *sql.Tx) (err error) {
			var last int64
			if batch, last, err = q.take(ctx, tx); err != nil || len(batch) == 0 {
				return err
			}
			var made []*message.Message
			for _, msg := range batch {
				outputs, err := w.handle(msg)
				if err != nil {
					return err
				}
				made = append(made, outputs...)
			}
			if err := q.add(ctx, tx, "outputs", made); err != nil {
				return err
			}
			if _, err := tx.StmtContext(ctx, q.remove).ExecContext(ctx, last); err != nil {
				return fmt.Errorf("delete messages: %w", err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, msg := range batch {
			load.pace.settled(indexOf(msg.UUID))
		}
		done += len(batch)
		if len(batch) == 0 {
			select {
			case <-q.arrived:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// take reads the oldest messages, and returns the ID of the last.
func (q *queue) take(ctx context.Context, tx *sql.Tx) (batch []*message.Message, last int64, err error) {
	rows, err := tx.StmtContext(ctx, q.claim).QueryContext(ctx, sqliteBatch)
	if err != nil {
		return nil, 0, fmt.Errorf("claim messages: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var uuid, metadata string
		var payload []byte
		if err := rows.Scan(&last, &uuid, &metadata, &payload); err != nil {
			return nil, 0, fmt.Errorf("claim messages: %w", err)
		}
		msg := message.NewMessage(uuid, payload)
		if err := json.Unmarshal([]byte(metadata), &msg.Metadata); err != nil {
			return nil, 0, fmt.Errorf("decode metadata: %w", err)
		}
		batch = append(batch, msg)
	}
	return batch, last, rows.Err()
}
