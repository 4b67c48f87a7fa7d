package config_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework/config"
)

// Files that the config names are relative to its folder, and printed as written.
func TestFilesBesideTheConfig(t *testing.T) {
	folder := t.TempDir()
	shop := filepath.Join(folder, "shop")
	require.NoError(t, os.Mkdir(shop, 0o700))
	load := func(path, text string) *config.Config {
		require.NoError(t, os.WriteFile(path, []byte("service: a\n"+text), 0o600))
		loaded, err := config.Load(path, nil)
		require.NoError(t, err)
		return loaded
	}
	there := filepath.Join(shop, "hapax.yaml")
	escaped := func(file string) string { return url.QueryEscape(filepath.Join(shop, file)) }
	loaded := load(there, "sqlite: {path: data/h.db}\nsql: {dsn: \"file:shop.db?synchronous=normal\"}\n")
	require.Equal(t, filepath.Join(shop, "data", "h.db"), loaded.SQLitePath())
	require.EqualValues(t, "file:"+shop+"/shop.db?synchronous=normal", loaded.DatabaseDSN())
	store, dsn := loaded.LedgerStore()
	require.Equal(t, "sqlite", store)
	require.Equal(t, loaded.DatabaseDSN(), dsn)
	var printed strings.Builder
	require.NoError(t, loaded.Render(&printed))
	require.Contains(t, printed.String(), "path: data/h.db")
	require.Contains(t, printed.String(), `dsn: "file:shop.db?synchronous=normal"`)

	for written, opened := range map[string]string{
		"shop.db":                  shop + "/shop.db",
		"sqlite:shop.db":           "sqlite:" + shop + "/shop.db",
		"file://shop.db":           "file://" + shop + "/shop.db",
		"file:///var/shop.db":      "file:///var/shop.db",
		"file:/var/shop.db?a=b?c":  "file:/var/shop.db?a=b?c",
		"file::memory:?cache=x":    "file::memory:?cache=x",
		"postgres://h/shop.db":     "postgres://h/shop.db",
		"u:p@tcp(h:3306)/shop.db":  "u:p@tcp(h:3306)/shop.db",
		"host=h dbname=file.db":    "host=h dbname=file.db",
		"file:../shop.db?mode=rwc": "file:" + folder + "/shop.db?mode=rwc",
	} {
		require.EqualValues(t, opened, load(there, "sql: {dsn: \""+written+"\"}\n").DatabaseDSN())
		if !strings.Contains(written, "memory") {
			_, dsn = load(there, "redis: {addresses: [\"h:1\"]}\ndedup: {ledger: {dsn: \""+written+"\"}}\n").LedgerStore()
			require.EqualValues(t, opened, dsn)
		}
	}
	for written, opened := range map[string]string{
		"rediss://:p%2Fw@h/0?ca_file=ca.pem&cert_file=my%20cert.pem&key_file=/etc/key.pem&server_name=n": "rediss://:p%2Fw@h/0?ca_file=" + escaped("ca.pem") + "&cert_file=" + escaped("my cert.pem") + "&key_file=/etc/key.pem&server_name=n",
		"redis://h/0": "redis://h/0",
	} {
		_, dsn = load(there, "dedup: {ledger: {dsn: \""+written+"\"}}\n").LedgerStore()
		require.EqualValues(t, opened, dsn)
	}
	for written, opened := range map[string]string{
		"postgres://u:p%2Fw@h/db?sslmode=verify-full&sslrootcert=ca.pem&sslcert=my%20cert.pem&sslkey=/etc/key.pem": "postgres://u:p%2Fw@h/db?sslmode=verify-full&sslrootcert=" + escaped("ca.pem") + "&sslcert=" + escaped("my cert.pem") + "&sslkey=/etc/key.pem",
		"postgres://h/db?sslrootcert=system":                                      "postgres://h/db?sslrootcert=system",
		"host=h sslrootcert=ca.pem sslcert = 'my cert.pem' sslkey=/etc/key.pem":   "host=h sslrootcert='" + shop + "/ca.pem' sslcert = '" + shop + "/my cert.pem' sslkey=/etc/key.pem",
		`sslkey='it\\'s.pem' password='a sslcert=b' host=h sslrootcert=../ca.pem`: `sslkey='` + shop + `/it\'s.pem' password='a sslcert=b' host=h sslrootcert='` + folder + `/ca.pem'`,
	} {
		require.EqualValues(t, opened, load(there, "sql: {dsn: \""+written+"\"}\n").DatabaseDSN())
		_, dsn = load(there, "dedup: {ledger: {dsn: \""+written+"\"}}\n").LedgerStore()
		require.EqualValues(t, opened, dsn)
	}
	_, dsn = load(there, "").LedgerStore()
	require.EqualValues(t, shop+"/hapax.db", dsn)

	// In the working directory nothing changes.
	t.Chdir(shop)
	require.Equal(t, "hapax.db", load("hapax.yaml", "").SQLitePath())
	require.EqualValues(t, "file:shop.db", load("hapax.yaml", "sql: {dsn: \"file:shop.db\"}\n").DatabaseDSN())
}
