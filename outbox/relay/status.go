package relay

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Status is the state of an outbox.
type Status struct {
	// Waiting rows, and the age of the oldest one.
	Waiting int64         `json:"waiting"`
	Oldest  time.Duration `json:"oldest_ns"`
	// Parked rows.
	Parked int64 `json:"parked"`
	// Relays that live, and how many shards have an owner.
	Relays int `json:"relays"`
	Owned  int `json:"owned_shards"`
}

// Status asks the database.
func (t *Table) Status(ctx context.Context) (status Status, err error) {
	age := "extract(epoch FROM clock_timestamp() - min(created_at))"
	switch t.dialect {
	case sqldb.MySQL:
		age = "TIMESTAMPDIFF(MICROSECOND, min(created_at), UTC_TIMESTAMP(6)) / 1e6"
	case sqldb.SQLite:
		age = "(julianday('now') - julianday(min(created_at))) * 86400"
	}
	err = t.query(ctx, func(rows *sql.Rows) error {
		var seconds float64
		err := rows.Scan(&status.Waiting, &seconds)
		status.Oldest = max(0, time.Duration(seconds*float64(time.Second)))
		return err
	}, "SELECT count(*), CAST(COALESCE("+age+", 0) AS "+t.float()+") FROM "+t.rows+" WHERE state = 0")
	if err != nil {
		return status, fmt.Errorf("read outbox status: %w", err)
	}
	one := func(into any, query string) {
		if err == nil {
			err = t.query(ctx, func(rows *sql.Rows) error { return rows.Scan(into) }, query)
		}
	}
	one(&status.Parked, "SELECT count(*) FROM "+t.rows+" WHERE state = "+strconv.Itoa(stateParked))
	one(&status.Relays, "SELECT count(*) FROM "+t.relays+" WHERE expires_at >= "+t.millis)
	one(&status.Owned, "SELECT count(*) FROM "+t.shards+" WHERE expires_at >= "+t.millis)
	if err != nil {
		return status, fmt.Errorf("read outbox status: %w", err)
	}
	return status, nil
}

func (t *Table) float() string {
	if t.dialect == sqldb.Postgres {
		return "double precision"
	}
	return map[sqldb.Dialect]string{sqldb.MySQL: "double", sqldb.SQLite: "real"}[t.dialect]
}

// Parked is a row that could not be published.
type Parked struct {
	ID       int64  `json:"id"`
	Topic    string `json:"topic"`
	Key      string `json:"key"`
	EventID  string `json:"event_id"`
	Attempts int    `json:"attempts"`
	Reason   string `json:"reason"`
}

// Parked lists parked rows, oldest first.
func (t *Table) Parked(ctx context.Context, limit int) (parked []Parked, err error) {
	err = t.query(ctx, func(rows *sql.Rows) error {
		var p Parked
		err := rows.Scan(&p.ID, &p.Topic, &p.Key, &p.EventID, &p.Attempts, &p.Reason)
		parked = append(parked, p)
		return err
	}, "SELECT id, topic, message_key, event_id, attempts, COALESCE(reason, '') FROM "+t.rows+
		" WHERE state = "+strconv.Itoa(stateParked)+" ORDER BY id LIMIT ?", limit)
	if err != nil {
		return nil, fmt.Errorf("list parked outbox rows: %w", err)
	}
	return parked, nil
}

// Retry lets parked rows wait again, all of them if none are named, and returns
// how many. They come after later rows of their keys that are published already.
func (t *Table) Retry(ctx context.Context, ids ...int64) (int, error) {
	n, err := t.exec(ctx, "UPDATE "+t.rows+" SET state = 0, attempts = 0, settled_at = NULL WHERE "+parkedOf(ids))
	if err != nil {
		return 0, fmt.Errorf("retry parked outbox rows: %w", err)
	}
	if t.dialect == sqldb.Postgres && n > 0 {
		// Relays that listen look now; the others soon do.
		_, _ = t.exec(ctx, "SELECT pg_notify('"+t.name.Name+"', '')")
	}
	return n, nil
}

// Discard deletes parked rows: their events are never published.
func (t *Table) Discard(ctx context.Context, ids ...int64) (int, error) {
	if len(ids) == 0 {
		return 0, nil
	}
	n, err := t.exec(ctx, "DELETE FROM "+t.rows+" WHERE "+parkedOf(ids))
	if err != nil {
		return 0, fmt.Errorf("discard parked outbox rows: %w", err)
	}
	return n, nil
}

func parkedOf(ids []int64) string {
	which := "state = " + strconv.Itoa(stateParked)
	if len(ids) > 0 {
		which += " AND id IN (" + join(ids) + ")"
	}
	return which
}
