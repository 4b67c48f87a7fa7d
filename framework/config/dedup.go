package config

// Dedup says how an event takes effect once.
type Dedup struct {
	// Strategy is the row of the rules table to use. auto: the broker's own
	// row, or inbox when sql.dsn is set; none: no deduplication. Default auto.
	Strategy string `yaml:"strategy" enum:"auto|$strategies"`
	// Claim says when an event is claimed. pessimistic: by a lease before the
	// handler runs; optimistic: by the commit, so that two copies may run at
	// once and one takes effect; "": as the strategy has it. Default "".
	Claim string `yaml:"claim" enum:"|pessimistic|optimistic"`
	// Window is how long a processed event is remembered; a copy that arrives
	// later takes effect again. It may be changed, but on Redis (strategy xack),
	// where marks belong to their window, only when nothing of before can come
	// again. Default 7d.
	Window Duration `yaml:"window" min:"1s"`
	// Conflict says what happens to an event whose ID was seen with another
	// payload. quarantine: to the dead-letter topic; ignore: it is a duplicate,
	// for producers that encode anew on retry. Default quarantine.
	Conflict string `yaml:"conflict" enum:"quarantine|ignore"`
	// InFlightWait is how long a copy waits for the outcome of the one being
	// processed before it goes back to the broker. 0: at once. Default 5s.
	InFlightWait Duration `yaml:"in_flight_wait"`
	// Lease is how long a claim holds without a heartbeat; another worker may
	// take over after it. Default 30s.
	Lease Duration `yaml:"lease" min:"100ms"`
	// AllowVolatile permits a ledger that forgets when the process ends, so
	// that a restart may repeat effects. Default false.
	AllowVolatile bool `yaml:"allow_volatile"`
	// ID says where an event's ID is looked for when its metadata has none.
	ID Identity `yaml:"id"`
	// Ledger is where strategies without a transaction keep their marks.
	Ledger Ledger `yaml:"ledger"`
}

// Identity says where an event's ID is looked for when its metadata has none.
type Identity struct {
	// Pointer is a JSON pointer (RFC 6901) to the ID in the payload. "": the
	// payload is not looked into. Default "".
	Pointer string `yaml:"pointer" pattern:"^(/([^~/]|~[01])*)*$" example:"/order/id"`
	// IgnoreUUID passes over the Watermill UUID, for producers that draw a new
	// one on every retry. Default false.
	IgnoreUUID bool `yaml:"ignore_uuid"`
	// ContentHash takes, as a last resort, the hash of the content for the ID:
	// two events that really are equal become one. Default false.
	ContentHash bool `yaml:"content_hash"`
}

// Ledger is where strategies without a transaction keep their marks.
type Ledger struct {
	// Store is the kind of ledger. auto: what dsn points to, else the sql
	// database, else the file of sqlite.path (one host only); memory forgets
	// when the process ends and needs allow_volatile. Default auto.
	Store string `yaml:"store" enum:"auto|memory|sqlite|redis|postgres|mysql"`
	// DSN is the connection string of the store. "": that of the sql block, the
	// redis block or sqlite.path, whichever fits the store; a variable that is empty
	// must say so, as in ${LEDGER_URL:-}. A file's path, those of ca_file, cert_file and
	// key_file in a URL of Redis and of sslrootcert, sslcert and sslkey for PostgreSQL
	// included, is relative to the folder of hapax.yaml.
	// Default "".
	DSN DSN `yaml:"dsn" example:"${LEDGER_URL}"`
}

// LedgerStore resolves dedup.ledger: the store, never auto, and how to reach it.
// An empty DSN with redis means the redis block; with memory it means nothing.
func (c *Config) LedgerStore() (store string, dsn DSN) {
	store, dsn = c.Dedup.Ledger.Store, c.Dedup.Ledger.DSN
	if store == "auto" {
		switch {
		case dsn != "":
			store = dsn.Driver()
		case c.SQL.Enabled():
			store = c.SQL.DSN.Driver()
		default:
			store = "sqlite"
		}
	}
	switch {
	case dsn != "":
		dsn = c.fromFolder(store, dsn)
	case c.SQL.Enabled() && c.SQL.DSN.Driver() == store:
		dsn = c.DatabaseDSN()
	case store == "sqlite":
		dsn = DSN(c.SQLitePath())
	}
	return store, dsn
}
