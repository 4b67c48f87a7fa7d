package config

// Redis says how to reach Redis.
type Redis struct {
	// Mode of the deployment. Default single.
	Mode string `yaml:"mode" enum:"single|sentinel|cluster"`
	// Addresses of the server, host:port; or of the sentinels; or of some nodes of the
	// cluster. Required when broker is redis. Default: none.
	Addresses []string `yaml:"addresses" format:"host:port" example:"127.0.0.1:6379"`
	// MasterName is what the sentinels call the master. Required with mode
	// sentinel. Default: none.
	MasterName string `yaml:"master_name" example:"mymaster"`
	// Username for access control lists. "": the default user. Default "".
	Username string `yaml:"username" example:"fulfilment"`
	// Password of the user. "": none. Default "".
	Password Secret `yaml:"password" example:"${REDIS_PASSWORD}"`
	// SentinelUsername logs in to the sentinels, where those ask for it. "": the
	// default user. Default "".
	SentinelUsername string `yaml:"sentinel_username"`
	// SentinelPassword is the sentinels' password. "": none. Default "".
	SentinelPassword Secret `yaml:"sentinel_password" example:"${SENTINEL_PASSWORD}"`
	// DB is the database's number; a cluster has only 0. Default 0.
	DB int `yaml:"db" min:"0"`
	// TLS encrypts the connections.
	TLS TLS `yaml:"tls"`
	// Lease is how long an entry may be pending without a heartbeat before
	// another consumer takes it over. Default 30s.
	Lease Duration `yaml:"lease" min:"100ms"`
	// Trim bounds the streams.
	Trim RedisTrim `yaml:"trim"`
	// AllowEviction permits a server that may evict keys when memory is short
	// (a maxmemory-policy other than noeviction), and with them marks and
	// messages. Default false.
	AllowEviction bool `yaml:"allow_eviction"`
}

// RedisTrim bounds the streams. What some group has not acknowledged is kept in any
// case, so a stream may grow beyond the bounds while a group is behind.
type RedisTrim struct {
	// MaxLength is about how many entries a stream keeps. 0: no limit.
	// Default 0.
	MaxLength int `yaml:"max_length" min:"0"`
	// MaxAge is about how long an entry is kept. 0: no limit. Default 0.
	MaxAge Duration `yaml:"max_age"`
}
