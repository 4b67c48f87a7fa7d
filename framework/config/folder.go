package config

import (
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// SQLitePath is sqlite.path as the process opens it: relative to the folder of the file
// that was loaded, so that every command and the service mean the same file.
func (c *Config) SQLitePath() string { return c.File(c.SQLite.Path) }

// DatabaseDSN is sql.dsn as the process opens it: a file's path is relative to the
// folder of the file that was loaded.
func (c *Config) DatabaseDSN() DSN {
	if c.SQL.DSN.Driver() != "sqlite" {
		return c.SQL.DSN
	}
	return c.dsnFromFolder(c.SQL.DSN)
}

// File is a path of the config, such as kafka.tls.ca_file, as the process opens it.
func (c *Config) File(path string) string {
	if path == "" || c.folder == "" || filepath.IsAbs(path) || strings.Contains(path, ":memory:") {
		return path
	}
	return filepath.Join(c.folder, path)
}

var fileScheme = regexp.MustCompile(`^((file|sqlite):(//)?)?`)

// dsnFromFolder is File for the path in a connection string of SQLite.
func (c *Config) dsnFromFolder(dsn DSN) DSN {
	scheme := fileScheme.FindString(string(dsn))
	path, options, some := strings.Cut(strings.TrimPrefix(string(dsn), scheme), "?")
	path = scheme + c.File(path)
	if some {
		path += "?" + options
	}
	return DSN(path)
}

var redisFile = regexp.MustCompile(`([?&](?:ca_file|cert_file|key_file)=)([^&#]*)`)

// redisFromFolder is File for the files that a URL of Redis names. The rest of it stays
// as it was written.
func (c *Config) redisFromFolder(dsn DSN) DSN {
	return DSN(redisFile.ReplaceAllStringFunc(string(dsn), func(parameter string) string {
		parts := redisFile.FindStringSubmatch(parameter)
		written, err := url.QueryUnescape(parts[2])
		if opened := c.File(written); err == nil && opened != written {
			return parts[1] + url.QueryEscape(opened)
		}
		return parameter
	}))
}
