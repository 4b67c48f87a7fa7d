package config

// SQL is the service's own database: PostgreSQL, MySQL, MariaDB or SQLite.
type SQL struct {
	// DSN is the connection string, as a URL or in the driver's own form; its
	// form tells the database. A file's path, those of PostgreSQL's sslrootcert,
	// sslcert and sslkey included, is relative to the folder of hapax.yaml. "": no
	// inbox and no outbox; a variable that is empty must say so, as in
	// ${DATABASE_URL:-}. Default "".
	DSN DSN `yaml:"dsn" example:"${DATABASE_URL}"`
	// LockTimeout is how long a statement waits for a lock before its
	// transaction is rolled back and the message delivered again. Default 5s.
	LockTimeout Duration `yaml:"lock_timeout" min:"1ms"`
	// Isolation is the isolation level of the handler's transaction.
	// Default read-committed.
	Isolation string `yaml:"isolation" enum:"read-committed|repeatable-read|serializable"`
	// IdleTimeout is how long a handler's transaction may stand without a statement
	// before the server ends it and the message is delivered again: so long does a
	// worker that was stopped hold its locks. When the same message meets this again,
	// the handler has failed. SQLite has none. Default 30s.
	IdleTimeout Duration `yaml:"idle_timeout" min:"1s"`
	// Schema is the schema of PostgreSQL, or the database of MySQL, that the tables
	// are in. "": that of the connection. SQLite has none. Default "".
	Schema string `yaml:"schema" pattern:"^([a-z_][a-z0-9_]{0,62})?$"`
	// Migrate says what happens at start when tables are missing or old. auto:
	// they are migrated; check: that is an error, which names the command to run.
	// Default auto.
	Migrate string `yaml:"migrate" enum:"auto|check"`
	// Inbox is the table of processed events.
	Inbox Inbox `yaml:"inbox"`
	// Outbox is the table of messages to publish.
	Outbox Outbox `yaml:"outbox"`
}

// Enabled reports whether the service has a database of its own.
func (s SQL) Enabled() bool { return s.DSN != "" }

// Inbox is the table of processed events. It is kept for dedup.window.
type Inbox struct {
	// Table is the table's name. A database, or schema, has its tables under one set
	// of names, that of the first migration. Default hapax_inbox.
	Table string `yaml:"table" pattern:"^[a-z_][a-z0-9_]{0,47}$"`
	// GroupSize is how many concurrent deliveries may share a transaction. 1: a
	// transaction each. PostgreSQL and MySQL take no more than 128. Default 128.
	GroupSize int `yaml:"group_size" min:"1" max:"1000"`
	// Connections is how many shared transactions run side by side. SQLite has one
	// writer. Default 4.
	Connections int `yaml:"connections" min:"1" max:"64"`
}

// Outbox is the table of messages to publish.
type Outbox struct {
	// Table is the table's name. A database, or schema, has its tables under one set
	// of names, that of the first migration. Default hapax_outbox.
	Table string `yaml:"table" pattern:"^[a-z_][a-z0-9_]{0,47}$"`
	// Retention is how long published rows are kept for reports. 0: they leave
	// as soon as they are published. Default 1d.
	Retention Duration `yaml:"retention"`
	// Relay publishes the table's rows from within the service. false: another
	// process does, such as hapax relay. Default true.
	Relay bool `yaml:"relay"`
	// MaxAttempts is how often a row is tried before it is parked, so that its key
	// goes on without it; hapax outbox shows, retries and discards parked rows. A
	// broker that is away does not count. Default 10.
	MaxAttempts int `yaml:"max_attempts" min:"1"`
}
