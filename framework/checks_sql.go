package framework

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// checkDatabases looks at what marks are kept in, when it is not the broker: the
// database of the inbox, and that of the ledger.
func checkDatabases(ctx context.Context, cfg *config.Config, handlers map[string]string) (findings []adapters.Finding) {
	if len(handlers) == 0 {
		handlers = map[string]string{"": ""} // any handler that has no settings of its own
	}
	inbox, ledger := false, ownLedger(cfg)
	for handler, topic := range handlers {
		if rule, err := RuleFor(cfg, topic, handler); err == nil {
			inbox = inbox || rule.Strategy == dedup.StrategyInbox && ownDatabase(cfg)
			ledger = ledger || rule.Ledger
		}
	}
	// The service's own database has the inbox and, without another, the ledger.
	store, dsn := cfg.LedgerStore()
	if ledger && store == "redis" {
		findings = append(findings, checkRedisLedger(ctx, cfg, dsn)...)
	}
	ledger = ledger && (store == "postgres" || store == "mysql" || store == "sqlite")
	if inbox {
		open := func() (*sql.DB, sqldb.Dialect, error) { return OpenDatabase(ctx, cfg) }
		findings = append(findings, checkDatabase(ctx, cfg, "sql.dsn", cfg.DatabaseDSN(), open, TableNames(cfg), TableNames(cfg).Inbox)...)
	}
	if ledger {
		open := func() (*sql.DB, sqldb.Dialect, error) { return sqldb.Open(ctx, dsn.Reveal()) }
		names := schema.Names{}.WithDefaults()
		if dsn == cfg.DatabaseDSN() {
			open = func() (*sql.DB, sqldb.Dialect, error) { return OpenDatabase(ctx, cfg) }
			names = TableNames(cfg)
		}
		findings = append(findings, checkDatabase(ctx, cfg, "dedup.ledger", dsn, open, names, names.Ledger)...)
	}
	return findings
}

// probe is one database being looked at.
type probe struct {
	db     *sql.DB
	about  string
	schema string // of the tables; "": the connection's
	list   []adapters.Finding
}

// checkDatabase looks at a database and at a table of marks in it.
func checkDatabase(ctx context.Context, cfg *config.Config, block string, dsn config.DSN, open func() (*sql.DB, sqldb.Dialect, error), names schema.Names, table string) []adapters.Finding {
	db, dialect, err := open()
	if err != nil {
		return []adapters.Finding{{
			Name: "sql-connection", About: block, Fatal: true, Problem: err.Error(), Fix: "start the database, or correct " + block,
		}}
	}
	defer db.Close()
	p := &probe{db: db, about: block, schema: names.Schema}
	p.add(adapters.Finding{Name: "sql-connection", Found: dsn.String()})
	// The ledger on SQLite makes its own table.
	if block == "sql.dsn" || dialect != sqldb.SQLite {
		p.version(ctx, cfg, dialect, names)
	}
	switch dialect {
	case sqldb.Postgres:
		p.postgres(ctx, table)
	case sqldb.MySQL:
		p.mysql(ctx, table)
	default:
		p.sqlite(ctx, table)
	}
	return p.list
}

// version compares the tables with those that this version knows.
func (p *probe) version(ctx context.Context, cfg *config.Config, dialect sqldb.Dialect, names schema.Names) {
	finding := adapters.Finding{Name: "sql-schema", Found: "current"}
	tables, err := schema.New(p.db, dialect, names)
	if err == nil {
		err = tables.Check(ctx)
	}
	switch {
	case errors.Is(err, schema.ErrNotCurrent) && cfg.SQL.Migrate != "check":
		finding.Found = "not current; migrated at the next start"
	case err != nil:
		finding.Fatal, finding.Found, finding.Problem = true, "", err.Error()
		finding.Fix = "run hapax migrate up, as a user who may create tables"
	case p.about == "sql.dsn":
		if err := tables.CheckNames(ctx); err != nil {
			finding.Fatal, finding.Found, finding.Problem = true, "", err.Error()
			finding.Fix = "use the names of the tables that are there, or another database or sql.schema"
		}
	}
	p.add(finding)
}

func (p *probe) add(finding adapters.Finding) {
	finding.About = strings.Trim(p.about+" "+finding.About, " ")
	p.list = append(p.list, finding)
}

// value reads one text; what cannot be read is a finding.
func (p *probe) value(ctx context.Context, name, query string, args ...any) (value string, ok bool) {
	err := p.db.QueryRowContext(ctx, query, args...).Scan(&value)
	if err != nil {
		p.add(adapters.Finding{Name: name, Problem: fmt.Sprintf("cannot be looked at: %v", err), Fix: "permit this user to run: " + query})
	}
	return value, err == nil
}

func (p *probe) postgres(ctx context.Context, table string) {
	p.clock(ctx, `SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::bigint`)
	for _, s := range [][2]string{
		{"fsync", "a power cut can damage the database"},
		{"synchronous_commit", "a crash of the server forgets the last commits, after their messages were acknowledged: those events are lost"},
	} {
		if value, ok := p.value(ctx, "sql-durability", "SHOW "+s[0]); ok {
			p.judge("sql-durability", s[0], value, value != "off", true, s[1], "set "+s[0]+" = on")
		}
	}
	if value, ok := p.value(ctx, "sql-isolation", "SHOW transaction_isolation"); ok {
		// PostgreSQL has no dirty reads, whatever it is called.
		p.judge("sql-isolation", "transaction_isolation", value, true, false, "", "")
	}
	p.unique(ctx, table, `SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = $1 AND n.nspname = coalesce(nullif($2, ''), current_schema())`,
		`SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		 WHERE c.relname = $1 AND n.nspname = coalesce(nullif($2, ''), current_schema()) AND i.indisunique AND i.indisvalid`)
}

func (p *probe) mysql(ctx context.Context, table string) {
	p.clock(ctx, `SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED)`)
	if value, ok := p.value(ctx, "sql-durability", "SELECT @@innodb_flush_log_at_trx_commit"); ok {
		p.judge("sql-durability", "innodb_flush_log_at_trx_commit", value, value == "1", true,
			"a crash forgets the last commits, after their messages were acknowledged: those events are lost", "SET GLOBAL innodb_flush_log_at_trx_commit = 1, and in my.cnf")
	}
	isolation, err := "", error(nil)
	// MySQL calls it transaction_isolation, MariaDB before 11 only tx_isolation.
	for _, name := range []string{"transaction_isolation", "tx_isolation"} {
		if err = p.db.QueryRowContext(ctx, "SELECT @@session."+name).Scan(&isolation); err == nil {
			break
		}
	}
	if err == nil {
		p.judge("sql-isolation", "isolation", isolation, isolation != "READ-UNCOMMITTED", true,
			"a transaction sees marks that may yet be rolled back, and takes an event for processed that is not", "set sql.isolation: read-committed, and no transaction_isolation in the dsn")
	}
	p.unique(ctx, table, `SELECT count(*) FROM information_schema.tables WHERE table_name = ? AND table_schema = coalesce(nullif(?, ''), database())`,
		`SELECT count(*) FROM information_schema.statistics WHERE table_name = ? AND table_schema = coalesce(nullif(?, ''), database()) AND non_unique = 0`)
	var engine string
	err = p.db.QueryRowContext(ctx, `SELECT engine FROM information_schema.tables WHERE table_name = ? AND table_schema = coalesce(nullif(?, ''), database())`, table, p.schema).Scan(&engine)
	if err == nil {
		p.judge("sql-engine", table, engine, strings.EqualFold(engine, "InnoDB"), true,
			"the engine has no transactions: a mark stays when its event is rolled back, and the event is lost", "ALTER TABLE "+table+" ENGINE = InnoDB")
	} else if !errors.Is(err, sql.ErrNoRows) {
		p.add(adapters.Finding{Name: "sql-engine", Problem: err.Error(), Fix: "permit this user to read information_schema"})
	}
}

func (p *probe) sqlite(ctx context.Context, table string) {
	if value, ok := p.value(ctx, "sql-durability", "PRAGMA synchronous"); ok {
		p.judge("sql-durability", "synchronous", value, value != "0", true, "a power cut can lose commits and damage the file", "remove synchronous=off from the dsn")
	}
	p.unique(ctx, table, `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1 AND ?2 = ''`,
		`SELECT count(*) FROM pragma_index_list(?1) WHERE "unique" = 1 AND ?2 = ''`)
}

func (p *probe) judge(name, subject, value string, fine, fatal bool, consequence, fix string) {
	finding := adapters.Finding{Name: name, About: subject, Found: value}
	if !fine {
		finding.Found, finding.Fatal = "", fatal
		finding.Problem, finding.Fix = fmt.Sprintf("found %s: %s", value, consequence), fix
	}
	p.add(finding)
}

// clock compares the server's clock, in microseconds, with this machine's.
func (p *probe) clock(ctx context.Context, query string) {
	var micros int64
	before := time.Now()
	if err := p.db.QueryRowContext(ctx, query).Scan(&micros); err != nil {
		p.add(adapters.Finding{Name: "sql-clock", Problem: fmt.Sprintf("the server does not tell its time: %v", err), Fix: "permit this user to run: " + query})
		return
	}
	p.add(adapters.ClockFinding("sql-clock", "", before, time.UnixMicro(micros), time.Now()))
}

// unique makes sure that a table of marks has the unique index by which two copies
// of an event meet.
func (p *probe) unique(ctx context.Context, table, exists, indexes string) {
	var tables, unique int
	err := p.db.QueryRowContext(ctx, exists, table, p.schema).Scan(&tables)
	if err == nil && tables == 0 {
		p.add(adapters.Finding{Name: "sql-index", About: table, Found: "table missing; made at the first start"})
		return
	}
	if err == nil {
		err = p.db.QueryRowContext(ctx, indexes, table, p.schema).Scan(&unique)
	}
	if err != nil {
		p.add(adapters.Finding{Name: "sql-index", About: table, Problem: fmt.Sprintf("the table cannot be looked at: %v", err), Fix: "permit this user to read the catalogue"})
		return
	}
	finding := adapters.Finding{Name: "sql-index", About: table, Found: "unique"}
	if unique == 0 {
		finding.Fatal, finding.Found = true, ""
		finding.Problem = "the table has no unique index: two copies of an event that are handled at once both take effect"
		finding.Fix = "drop the table if it is empty, so that it is made anew; or restore it from Hapax's schema"
	}
	p.add(finding)
}
