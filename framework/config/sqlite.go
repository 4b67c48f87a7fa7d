package config

// SQLite is the embedded broker: one file.
type SQLite struct {
	// Path of the database file, made if it is missing; relative to the folder of
	// hapax.yaml, wherever a service or command is run. Default hapax.db.
	Path string `yaml:"path" required:"true" example:"hapax.db"`
	// Synchronous says what a commit survives. full: a power cut; normal: a
	// crash of the process, but a power cut may undo the last commits.
	// Default full.
	Synchronous string `yaml:"synchronous" enum:"full|normal"`
	// Lease is how long a message handed out stays with its consumer without a
	// heartbeat. Default 30s.
	Lease Duration `yaml:"lease" min:"100ms"`
	// Retention is how long a message is kept after every group has processed
	// it, for groups that join later. 0: it leaves at once. Default 1d.
	Retention Duration `yaml:"retention"`
	// MaxPayload is the largest payload that is accepted. Default 16MiB.
	MaxPayload Size `yaml:"max_payload" min:"1KiB" max:"512MiB"`
}
