package inbox

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"iter"
	"regexp"
	"strings"
	"sync/atomic"
	"unicode"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// session is the writer's connection while it lasts. The writer itself speaks to
// it directly; units get *sql.Tx values that speak to it through proxies (see
// proxy.go), so that none of them can commit what belongs to all.
//
// One goroutine at a time uses it: the writer, or the holder of the turn while
// the writer waits for it.
type session struct {
	raw   driver.Conn
	stmts map[string]driver.Stmt
	// open holds the cached statements whose rows are being read. Running one of
	// them again would restart it under its reader.
	open map[driver.Stmt]bool
	// lost: the database ended the transaction by itself.
	lost bool
	// altered: a statement has changed the connection itself, beyond its transaction.
	altered bool
	// guard is for the next proxied transaction.
	guard *guard
	proxy *sql.DB
}

// maxStmts bounds the statement cache. Handlers that build SQL text with values
// in it would otherwise fill the memory.
const maxStmts = 256

func newSession(raw driver.Conn) *session {
	s := &session{raw: raw, stmts: map[string]driver.Stmt{}, open: map[driver.Stmt]bool{}}
	s.proxy = sql.OpenDB(connector{link: s})
	return s
}

func (s *session) close() {
	_ = s.proxy.Close()
	s.forget()
}

func (s *session) forget() {
	for _, stmt := range s.stmts {
		_ = stmt.Close()
	}
	clear(s.stmts)
}

// begin opens a transaction for one unit or turn inside the group's. It is ended
// by finish, and never reaches the database.
func (s *session) begin() (*sql.Tx, *guard, error) {
	s.guard = &guard{}
	tx, err := s.proxy.Begin()
	return tx, s.guard, err
}

// exec runs a statement, prepared once per session.
func (s *session) exec(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	stmt, done, err := s.prepare(query)
	if err != nil {
		return nil, err
	}
	defer done()
	return execStmt(ctx, stmt, args)
}

// query runs a query, prepared once per session.
func (s *session) query(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	stmt, done, err := s.prepare(query)
	if err != nil {
		return nil, err
	}
	rows, err := queryStmt(ctx, stmt, args)
	if err != nil {
		done()
		return nil, err
	}
	s.open[stmt] = true
	return &cachedRows{Rows: rows, done: func() {
		delete(s.open, stmt)
		done()
	}}, nil
}

// prepare returns a statement from the cache, or a new one. done must be called
// when it has been used.
func (s *session) prepare(query string) (stmt driver.Stmt, done func(), err error) {
	stmt, cached := s.stmts[query]
	if cached && !s.open[stmt] {
		return stmt, func() {}, nil
	}
	if stmt, err = s.raw.Prepare(query); err != nil {
		return nil, nil, err
	}
	if cached { // in use: this one is for once
		return stmt, func() { _ = stmt.Close() }, nil
	}
	if len(s.stmts) >= maxStmts && len(s.open) == 0 {
		s.forget()
	}
	s.stmts[query] = stmt
	return stmt, func() {}, nil
}

// integer runs a query of the writer's own that yields one number.
func (s *session) integer(query string) (int64, error) {
	rows, err := s.query(context.Background(), query, nil)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	dest := make([]driver.Value, 1)
	if err := rows.Next(dest); err != nil {
		return 0, err
	}
	number, _ := dest[0].(int64)
	return number, nil
}

// run executes one of the writer's own statements.
func (s *session) run(query string) error {
	_, err := s.exec(context.Background(), query, nil)
	return err
}

// allow refuses statements that end or begin the transaction, by their first word.
// Where one is not seen, the writer finds its savepoint gone and fails the group.
func (s *session) allow(query string) error {
	if s.lost {
		return ErrRolledBack
	}
	for text := range statements(query) {
		switch word, rest := firstWord(text); word {
		case "PRAGMA", "ATTACH":
			s.altered = s.altered || !harmlessPragma.MatchString(rest)
			continue
		case "BEGIN", "COMMIT", "END":
		case "ROLLBACK":
			if ownSavepoint(text) {
				continue
			}
		default:
			continue
		}
		s.guard.misused.Store(true)
		return ErrNotYours
	}
	return nil
}

// harmlessPragma are those that only read, or end with the transaction. Others last as
// long as the connection, and keep everybody else out of the file (locking_mode), or from
// writing (query_only).
var harmlessPragma = regexp.MustCompile(`(?i)^\s+(\w+\.)?(\w+\s*(;|$)|table_|index_|foreign_key_|integrity_check|quick_check|defer_foreign_keys)`)

// bound cuts off the end of a statement's context: see the package comment.
func (s *session) bound(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

func (s *session) conn() driver.Conn { return s.raw }

func (s *session) guarding() *guard { return s.guard }

func (s *session) reading(int) {} // SQLite runs other statements meanwhile

// check looks after a failed statement whether the transaction still stands.
// SQLite answers some errors (full disk, I/O error, INSERT OR ROLLBACK) by
// rolling it all back, and would then run the next statement on its own, without
// the mark that belongs to it. BEGIN fails inside a transaction; where it
// succeeds the old one is gone, and the new one keeps whatever follows from
// becoming durable until the writer rolls it back.
func (s *session) check(err error) error {
	if err == nil || s.lost {
		return err
	}
	broken := sqldb.IsBroken(err)
	if s.run("BEGIN") == nil {
		s.lost = true
		err = fmt.Errorf("%w: %w", ErrRolledBack, err)
	}
	if broken {
		return s.guard.around(err)
	}
	return err
}

// firstWord is a statement's first word in capitals, past blanks and comments.
func firstWord(query string) (word, rest string) {
	for {
		query = strings.TrimLeft(query, " \t\r\n;(")
		var found bool
		switch {
		case strings.HasPrefix(query, "/*"):
			_, query, found = strings.Cut(query, "*/")
		case strings.HasPrefix(query, "--"), strings.HasPrefix(query, "#"):
			_, query, found = strings.Cut(query, "\n")
		default:
			end := strings.IndexFunc(query, func(c rune) bool { return !unicode.IsLetter(c) })
			if end < 0 {
				end = len(query)
			}
			return strings.ToUpper(query[:end]), query[end:]
		}
		if !found {
			return "", ""
		}
	}
}

// ownSavepoint tells ROLLBACK TO, which is the handler's own affair, from ROLLBACK.
func ownSavepoint(query string) bool { return strings.Contains(strings.ToUpper(query), " TO ") }

// statements are the texts of a query that may be several: each from its beginning to
// the end of all. A semicolon in quotes or a comment ends none, and neither do those of
// what a CREATE defines.
func statements(query string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !yield(query) || strings.IndexByte(query, ';') < 0 {
			return
		}
		if word, _ := firstWord(query); word == "CREATE" {
			return
		}
		for at := 0; at < len(query); {
			if query[at] == ';' && !yield(query[at+1:]) {
				return
			}
			at += token(query[at:])
		}
	}
}

// token is the length of what the text begins with: something quoted, a comment, or a
// byte. Where databases differ about where it ends, as they do about backslashes, the
// longer one counts: a statement that is not seen is found out later.
func token(text string) int {
	until := func(from int, end string) int {
		if length := strings.Index(text[from:], end); length >= 0 {
			return from + length + len(end)
		}
		return len(text)
	}
	switch c := text[0]; {
	case c == '\'' || c == '"' || c == '`':
		for at := 1; at < len(text); at++ {
			if text[at] == '\\' {
				at++
			} else if text[at] == c {
				return at + 1
			}
		}
		return len(text)
	case strings.HasPrefix(text, "--"), c == '#':
		return until(1, "\n")
	case strings.HasPrefix(text, "/*"):
		return until(2, "*/")
	case c == '$':
		if tag := dollarTag.FindString(text); tag != "" {
			return until(len(tag), tag)
		}
	}
	return 1
}

// dollarTag begins and ends a text of PostgreSQL.
var dollarTag = regexp.MustCompile(`^\$(?:[A-Za-z_][A-Za-z0-9_]*)?\$`)

// guard watches over one proxied transaction.
type guard struct {
	ending  atomic.Bool // the writer is ending it
	misused atomic.Bool // somebody else did
	event   string      // whose it is, for errors
	idled   bool        // its event has met ErrIdle before
}

// around makes an error one that is not the handler's own, unless the handler has ended the
// transaction.
func (g *guard) around(err error) error {
	if g.event == "" || g.misused.Load() {
		return err
	}
	return &dedup.StepError{Step: "run SQL of", EventID: g.event, Err: err}
}

// idle is the error of a transaction that stood for too long without a statement.
func (g *guard) idle(err error) error {
	if g.idled {
		return fmt.Errorf("%w: %w: %w", dedup.ErrRefused, ErrIdle, err)
	}
	return fmt.Errorf("%w: %w", ErrIdle, err)
}

// finish ends a proxied transaction: open rows are closed, and a statement still
// running is waited for. Whatever its holder does with it later is an error.
func (g *guard) finish(tx *sql.Tx) {
	g.ending.Store(true)
	_ = tx.Rollback()
}
