package inbox

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/hapax-go/hapax/outbox/sqldb"
)

// poolSession is a connection to PostgreSQL or MySQL while a group has it.
//
// One goroutine at a time uses it: the group's, or the holder of the turn while
// the group waits for it.
type poolSession struct {
	raw     driver.Conn
	dialect sqldb.Dialect
	// alone: the transaction belongs to one handler, so the end of a statement's
	// context may end the connection, as these drivers do.
	alone bool
	// life ends the statement that runs, by ending the connection, and so does
	// interrupt, where the driver has it; else it is nil.
	life      context.Context
	interrupt func()
	// lost: the transaction is gone. On MySQL a statement after that would commit
	// by itself, without the mark.
	lost bool
	// idle: it is gone because it stood for too long without a statement. last is when the
	// last one ended, and limit is Config.IdleTimeout.
	idle  bool
	last  time.Time
	limit time.Duration
	// written: a statement has run since the turn began.
	written bool
	// contended: so has one that met a deadlock or waited for a lock in vain.
	contended bool
	// called: so has one that calls a procedure, which may end MySQL's transaction.
	called bool
	// altered: a statement has changed the session itself, beyond its transaction.
	altered bool
	// open is how many queries have rows that are read.
	open  int
	guard *guard
	proxy *sql.DB
}

func newPoolSession(life context.Context, raw driver.Conn, dialect sqldb.Dialect, alone bool) *poolSession {
	s := &poolSession{raw: raw, dialect: dialect, alone: alone, life: life, interrupt: sqldb.Interrupter(raw)}
	s.proxy = sql.OpenDB(connector{link: s})
	return s
}

func (s *poolSession) close() { _ = s.proxy.Close() }

// begin opens a transaction for one turn inside the group's; see session.begin.
func (s *poolSession) begin() (*sql.Tx, *guard, error) {
	s.guard = &guard{}
	tx, err := s.proxy.Begin()
	return tx, s.guard, err
}

// run executes one of the group's own statements.
func (s *poolSession) run(statement string) error {
	if s.lost {
		return ErrRolledBack
	}
	_, err := s.raw.(driver.ExecerContext).ExecContext(s.life, statement, nil)
	s.note(err)
	return err
}

// ends are the first words of statements that end a transaction or begin another,
// and on MySQL of those that commit what came before without being asked.
var ends = map[sqldb.Dialect][]string{
	sqldb.Postgres: {"BEGIN", "START", "COMMIT", "END", "ABORT", "PREPARE TRANSACTION"},
	sqldb.MySQL: {"BEGIN", "START", "COMMIT", "XA", "CREATE", "ALTER", "DROP", "TRUNCATE", "RENAME", "GRANT", "REVOKE",
		"LOCK", "UNLOCK", "ANALYZE TABLE", "OPTIMIZE", "REPAIR", "FLUSH", "SET AUTOCOMMIT"},
}

func (s *poolSession) allow(query string) error {
	if s.vanished() {
		return s.around(ErrRolledBack)
	}
	if s.open > 0 {
		return errReading
	}
	s.written = true
	for text := range statements(query) {
		word, rest := firstWord(text)
		s.called = s.called || word == "CALL"
		s.altered = s.altered || s.alters(word, rest)
		if s.ends(text) {
			s.guard.misused.Store(true)
			return ErrNotYours
		}
	}
	return nil
}

// alters reports whether a statement may change what lasts longer than the transaction: the
// role, the schema or database that names are looked for in, a time limit, a temporary
// table, a lock. Who gets the connection next would run under it, in this service's
// handlers or in Hapax itself.
func (s *poolSession) alters(word, rest string) bool {
	switch word {
	case "USE", "RESET", "DEALLOCATE", "LISTEN", "PREPARE":
		return true
	case "SET":
		what, _ := firstWord(rest)
		own := userVariable.MatchString(rest) && !furtherSetting.MatchString(rest)
		local := what == "LOCAL" && s.dialect == sqldb.Postgres // to MySQL it is the session
		return !own && !local && what != "TRANSACTION" && what != "CONSTRAINTS"
	case "CREATE":
		return temporary.MatchString(rest) && !onCommitDrop.MatchString(rest)
	case "DECLARE":
		return strings.Contains(strings.ToUpper(rest), "WITH HOLD")
	case "SELECT", "WITH", "DO":
		if word == "DO" && s.dialect == sqldb.Postgres {
			return true // a block in another language, which may do any of this
		}
		text := strings.ToLower(rest)
		return strings.Contains(text, "temp") && intoTemporary.MatchString(text) ||
			strings.Contains(text, "advisory_lock") || strings.Contains(text, "get_lock") ||
			strings.Count(text, "set_config") > len(localConfig.FindAllString(text, -1))
	}
	return false
}

var (
	userVariable   = regexp.MustCompile(`^\s*@[^@]`) // of MySQL's user
	furtherSetting = regexp.MustCompile(`,\s*(@@|[A-Za-z][\w. ]*:?=)`)
	temporary      = regexp.MustCompile(`(?i)^\s+(OR\s+REPLACE\s+)?((LOCAL|GLOBAL)\s+)?TEMP(ORARY)?\s|\bpg_temp\b`)
	intoTemporary  = regexp.MustCompile(`\sinto\s+((local|global)\s+)?(temp(orary)?\s|pg_temp\b)`)
	onCommitDrop   = regexp.MustCompile(`(?i)\sON\s+COMMIT\s+DROP\b`)
	localConfig    = regexp.MustCompile(`set_config[^;]*?,\s*true\s*\)`) // ends with the transaction
)

func (s *poolSession) ends(query string) bool {
	first, rest := firstWord(query)
	if first == "ROLLBACK" {
		return !ownSavepoint(query)
	}
	for _, words := range ends[s.dialect] {
		word, second, two := strings.Cut(words, " ")
		if first != word {
			continue
		}
		next, _ := firstWord(rest)
		if two && next != second || next == "TEMPORARY" {
			continue
		}
		return true
	}
	return false
}

// vanished reports whether the transaction is gone. Where that is so though no statement
// failed, one has ended it that allow did not see.
func (s *poolSession) vanished() bool {
	if !s.lost && sqldb.StateOf(s.raw) == sqldb.TxNone {
		s.lost = true
		s.guard.misused.Store(true)
	}
	return s.lost
}

// bound is a statement's context. In a shared transaction its own end counts for
// nothing, as the drivers answer it by closing the connection, with the other
// handlers' work; the group takes the turn away after a while.
func (s *poolSession) bound(ctx context.Context) context.Context {
	switch {
	case s.alone:
		return ctx
	case s.interrupt != nil:
		return context.WithoutCancel(ctx)
	default:
		return boundContext{s.life, ctx}
	}
}

// boundContext has the end of one context and the values of another.
type boundContext struct {
	context.Context
	values context.Context
}

// Value implements context.Context.
func (c boundContext) Value(key any) any { return c.values.Value(key) }

func (s *poolSession) exec(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return s.raw.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (s *poolSession) query(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return s.raw.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (s *poolSession) conn() driver.Conn { return s.raw }

func (s *poolSession) reading(change int) {
	s.open += change
	s.last = time.Now()
}

// errReading: the drivers would give the connection up, as if it were lost, and the
// transaction of all with it.
var errReading = errors.New("a statement was run while rows of a query are read: a transaction has one connection, which does one thing at a time: read the rows to their end, or close them, before")

func (s *poolSession) guarding() *guard { return s.guard }

// note looks after a statement whether the transaction is gone.
func (s *poolSession) note(err error) {
	if err != nil {
		state := sqldb.StateOf(s.raw)
		s.idle = s.idle || sqldb.IsIdle(err) || s.limit > 0 && sqldb.IsLost(err) && time.Since(s.last) >= s.limit
		s.contended = s.contended || sqldb.Retryable(err)
		s.lost = s.lost || state == sqldb.TxNone || state == sqldb.TxUnknown && sqldb.Undone(s.life, s.raw, err)
	}
	s.last = time.Now()
}

// check tells errors that are nobody's fault from the handler's own: an event is
// never dead-lettered because of a deadlock, however often its handler met one.
func (s *poolSession) check(err error) error {
	if err == driver.ErrSkip {
		return err
	}
	if err == nil {
		s.last = time.Now()
		if s.vanished() {
			return ErrNotYours
		}
		return nil
	}
	s.note(err)
	if s.lost || sqldb.Retryable(err) || sqldb.IsLost(err) || sqldb.IsBroken(err) {
		return s.around(err)
	}
	return err
}

// around is the error of a statement that is not the handler's own.
func (s *poolSession) around(err error) error {
	if s.idle {
		err = s.guard.idle(err)
	}
	return s.guard.around(err)
}

// aborted reports that a statement failed and PostgreSQL takes no more of them.
func (s *poolSession) aborted() bool { return sqldb.StateOf(s.raw) == sqldb.TxAborted }
