package config

import (
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// SQLitePath is sqlite.path as the process opens it: relative to the folder of the file
// that was loaded, so that every command and the service mean the same file.
func (c *Config) SQLitePath() string { return c.File(c.SQLite.Path) }

// DatabaseDSN is sql.dsn as the process opens it: a file's path is relative to the
// folder of the file that was loaded.
func (c *Config) DatabaseDSN() DSN { return c.fromFolder(c.SQL.DSN.Driver(), c.SQL.DSN) }

// DatabaseFile is the path in sql.dsn as the process opens it; "" where that is no SQLite file.
func (c *Config) DatabaseFile() string {
	if c.SQL.DSN.Driver() != "sqlite" {
		return ""
	}
	dsn := string(c.DatabaseDSN())
	path, _, _ := strings.Cut(strings.TrimPrefix(dsn, fileScheme.FindString(dsn)), "?")
	return path
}

// fromFolder is File for the files that a connection string of a store names. The rest of
// it stays as it was written.
func (c *Config) fromFolder(store string, dsn DSN) DSN {
	switch store {
	case "sqlite":
		return c.sqliteFromFolder(dsn)
	case "redis":
		return c.queryFromFolder(redisFile, dsn)
	case "postgres":
		if urlForm.MatchString(string(dsn)) {
			return c.queryFromFolder(postgresFile, dsn)
		}
		return c.keywordsFromFolder(dsn)
	}
	return dsn
}

// File is a path of the config, such as kafka.tls.ca_file, as the process opens it.
func (c *Config) File(path string) string {
	if path == "" || c.folder == "" || filepath.IsAbs(path) || strings.Contains(path, ":memory:") {
		return path
	}
	return filepath.Join(c.folder, path)
}

var fileScheme = regexp.MustCompile(`^((file|sqlite):(//)?)?`)

// sqliteFromFolder is File for the path in a connection string of SQLite.
func (c *Config) sqliteFromFolder(dsn DSN) DSN {
	scheme := fileScheme.FindString(string(dsn))
	path, options, some := strings.Cut(strings.TrimPrefix(string(dsn), scheme), "?")
	path = scheme + c.File(path)
	if some {
		path += "?" + options
	}
	return DSN(path)
}

var (
	redisFile    = regexp.MustCompile(`([?&](?:ca_file|cert_file|key_file)=)([^&#]*)`)
	postgresFile = regexp.MustCompile(`([?&](?:sslrootcert|sslcert|sslkey)=)([^&#]*)`)
)

// queryFromFolder is File for the files in a URL's query.
func (c *Config) queryFromFolder(files *regexp.Regexp, dsn DSN) DSN {
	return DSN(files.ReplaceAllStringFunc(string(dsn), func(parameter string) string {
		parts := files.FindStringSubmatch(parameter)
		written, err := url.QueryUnescape(parts[2])
		if opened := c.File(written); err == nil && opened != written && written != systemRoots {
			return parts[1] + url.QueryEscape(opened)
		}
		return parameter
	}))
}

// systemRoots is PostgreSQL's word for no file.
const systemRoots = "system"

var (
	keywordPair  = regexp.MustCompile(`([A-Za-z_]+)(\s*=\s*)('(?:[^'\\]|\\.)*'|(?:[^\s\\]|\\.)*)`)
	keywordFiles = []string{"sslrootcert", "sslcert", "sslkey"}
	backslash    = regexp.MustCompile(`\\(.)`)
	quoting      = strings.NewReplacer(`\`, `\\`, `'`, `\'`)
)

// keywordsFromFolder is File for the files in PostgreSQL's keyword=value form.
func (c *Config) keywordsFromFolder(dsn DSN) DSN {
	return DSN(keywordPair.ReplaceAllStringFunc(string(dsn), func(pair string) string {
		parts := keywordPair.FindStringSubmatch(pair)
		if !slices.Contains(keywordFiles, parts[1]) {
			return pair
		}
		value := parts[3]
		if strings.HasPrefix(value, "'") {
			value = value[1 : len(value)-1]
		}
		written := backslash.ReplaceAllString(value, "$1")
		if opened := c.File(written); opened != written && written != systemRoots {
			return parts[1] + parts[2] + "'" + quoting.Replace(opened) + "'"
		}
		return pair
	}))
}
