package sqlite

// OldestQuery is the query that Expire begins with.
func (l *Ledger) OldestQuery() string { return l.sql.oldest }
