package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/hapax-go/hapax/dedup"
)

// row is a mark or a lease as stored; zero: there is none.
type row struct {
	found  bool
	digest dedup.Digest
	token  uint64
	until  int64
}

func (r row) heldBy(entry *dedup.Entry) bool { return r.found && r.token == entry.Token }

// rows are what is stored of an ID. A mark that has expired is not found.
type rows struct{ mark, lease row }

// pack lays entries out as the queries cut them: ID, digest, token.
func pack(entries []*dedup.Entry) []byte {
	packed := make([]byte, 0, 40*len(entries))
	for _, entry := range entries {
		packed = append(packed, entry.ID[:]...)
		packed = append(packed, entry.Digest[:]...)
		packed = binary.BigEndian.AppendUint64(packed, entry.Token)
	}
	return packed
}

// find reads what is stored of the entries' IDs, and the generation in use.
func (l *Ledger) find(ctx context.Context, q Querier, entries []*dedup.Entry, now int64) ([]rows, generation, error) {
	found := make([]rows, len(entries))
	var current generation
	packed := pack(entries)
	err := each(ctx, q, l.sql.find, []any{packed, len(entries)}, func(result *sql.Rows) error {
		var (
			i, kind       int
			digest, token sql.RawBytes
			first         int64
			marks         generation
		)
		if err := result.Scan(&i, &kind, &digest, &token, &first, &marks.marks, &marks.started, &marks.until); err != nil {
			return err
		}
		if i < 0 {
			current = marks
			current.number = first
			return nil
		}
		stored, err := newRow(entries[i], digest, token, first)
		if kind == 0 {
			found[i].lease = stored
		} else {
			found[i].marked(stored, now)
		}
		return err
	})
	if err == nil && current.number == 0 {
		err = fmt.Errorf("no generation is in use: restore the ledger's tables from before they were edited")
	}
	if err != nil {
		return nil, current, err
	}
	older, err := l.older.places(ctx, l, q, current.number, entries, found, now)
	if err != nil || len(older) == 0 {
		return found, current, err
	}
	list, err := json.Marshal(older)
	if err != nil {
		return nil, current, err
	}
	err = each(ctx, q, l.sql.findOlder, []any{packed, string(list)}, func(result *sql.Rows) error {
		var i int
		var digest, token sql.RawBytes
		var until int64
		if err := result.Scan(&i, &digest, &token, &until); err != nil {
			return err
		}
		stored, err := newRow(entries[i], digest, token, until)
		found[i].marked(stored, now)
		return err
	})
	return found, current, err
}

func newRow(entry *dedup.Entry, digest, token []byte, until int64) (row, error) {
	if len(digest) != 16 || len(token) != 8 {
		return row{}, fmt.Errorf("row of %s has a digest of %d bytes and a token of %d, expected 16 and 8: restore the table from before it was edited", entry.ID, len(digest), len(token))
	}
	return row{found: true, digest: dedup.Digest(digest), token: binary.BigEndian.Uint64(token), until: until}, nil
}

// marked notes a mark, unless it has expired.
func (r *rows) marked(mark row, now int64) {
	if mark.until > now {
		r.mark = mark
	}
}

func each(ctx context.Context, q Querier, query string, args []any, row func(*sql.Rows) error) error {
	result, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer result.Close()
	for result.Next() {
		if err := row(result); err != nil {
			return err
		}
	}
	return result.Err()
}

// decide sets the verdict of each entry and returns those that are fresh. Later
// entries of a fresh ID get the verdict repeated, or Conflict.
func decide(entries []*dedup.Entry, found []rows, now int64, repeated dedup.Verdict) []*dedup.Entry {
	fresh := make([]*dedup.Entry, 0, len(entries))
	first := make(map[dedup.ID]*dedup.Entry, len(entries))
	for i, entry := range entries {
		entry.Verdict = found[i].verdict(entry, now)
		if earlier := first[entry.ID]; earlier != nil {
			entry.Verdict = repeated
			if !earlier.Digest.Matches(entry.Digest) {
				entry.Verdict = dedup.Conflict
			}
		}
		if entry.Verdict == dedup.Fresh {
			first[entry.ID] = entry
			fresh = append(fresh, entry)
		}
	}
	return fresh
}

func (r rows) verdict(entry *dedup.Entry, now int64) dedup.Verdict {
	leased := r.lease.found && r.lease.until > now
	switch {
	case r.mark.found && r.mark.digest.Matches(entry.Digest):
		return dedup.Duplicate
	case r.mark.found, leased && !r.lease.digest.Matches(entry.Digest):
		return dedup.Conflict
	case leased && r.lease.token != entry.Token:
		return dedup.InFlight
	}
	return dedup.Fresh
}

func (l *Ledger) putLeases(ctx context.Context, q Querier, entries []*dedup.Entry, until int64) error {
	return l.exec(ctx, q, l.sql.putLeases, pack(entries), len(entries), until)
}

func (l *Ledger) dropLeases(ctx context.Context, q Querier, entries []*dedup.Entry) error {
	return l.exec(ctx, q, l.sql.dropLeases, pack(entries), len(entries))
}

// putMarks inserts marks into the generation in use.
func (l *Ledger) putMarks(ctx context.Context, q Querier, entries []*dedup.Entry, current generation, now int64) error {
	if len(entries) == 0 {
		return nil
	}
	until := now + millis(l.window)
	current, err := l.turn(ctx, q, current, now)
	if err != nil {
		return err
	}
	if _, err := q.ExecContext(ctx, l.sql.count, len(entries), until, current.number); err != nil {
		return err
	}
	if err := l.exec(ctx, q, l.sql.putMarks, pack(entries), len(entries), until, current.number); err != nil {
		return err
	}
	return l.putLog(ctx, q, entries, now, until)
}

// putLog writes down what reports show, with one statement for each run of
// entries of one scope and topic: that is nearly always one.
func (l *Ledger) putLog(ctx context.Context, q Querier, entries []*dedup.Entry, now, until int64) error {
	for start := 0; start < len(entries); {
		first, end := entries[start], start+1
		for end < len(entries) && entries[end].Scope == first.Scope && entries[end].Topic == first.Topic {
			end++
		}
		run := entries[start:end]
		start = end
		eventIDs := make([]string, len(run))
		for i, entry := range run {
			eventIDs[i] = entry.EventID
		}
		list, err := json.Marshal(eventIDs)
		if err != nil {
			return err
		}
		err = l.exec(ctx, q, l.sql.putLog, pack(run), string(list), until, now,
			first.Scope.Service, first.Scope.Handler, first.Topic)
		if err != nil {
			return err
		}
	}
	return nil
}

// exec runs a statement on packed entries, unless there are none.
func (l *Ledger) exec(ctx context.Context, q Querier, query string, packed []byte, args ...any) error {
	if len(packed) == 0 {
		return nil
	}
	_, err := q.ExecContext(ctx, query, append([]any{packed}, args...)...)
	return err
}
