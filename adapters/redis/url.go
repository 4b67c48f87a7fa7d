package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// ParseURL makes a Config of a connection string:
//
//	redis://user:password@host:6379/0                                  one server
//	redis://…@host:26379/0?master_name=mymaster&addr=host2:26379       sentinels
//	redis://…@host:6379?mode=cluster&addr=host2:6379&addr=host3:6379   some nodes of a cluster
//
// The scheme rediss is the same with TLS. Parameters: addr, one more address, as
// often as needed; mode, which follows from master_name otherwise; master_name;
// sentinel_username and sentinel_password, for sentinels that ask for them; db, in
// place of the path; and with TLS ca_file, cert_file with key_file, server_name and
// skip_verify=true. Errors never show the string, because of its password.
func ParseURL(text string) (Config, error) {
	parsed, err := url.Parse(text)
	if err != nil || parsed.Host == "" || parsed.Scheme != "redis" && parsed.Scheme != "rediss" {
		return Config{}, errURL
	}
	if parsed.User == nil && strings.Contains(text, "@") {
		// The server's name ended in the middle of a password with a / or ? in it, of
		// which the errors below would show the rest.
		return Config{}, errURL
	}
	values := parsed.Query()
	take := func(name string) string {
		value := values.Get(name)
		values.Del(name)
		return value
	}
	port := parsed.Port()
	if port == "" {
		port = "6379"
	}
	config := Config{Addresses: append([]string{net.JoinHostPort(parsed.Hostname(), port)}, values["addr"]...), Username: parsed.User.Username()}
	values.Del("addr")
	config.Password, _ = parsed.User.Password()
	config.MasterName = take("master_name")
	config.SentinelUsername, config.SentinelPassword = take("sentinel_username"), take("sentinel_password")
	switch config.Mode = Mode(take("mode")); {
	case config.Mode == "" && config.MasterName != "":
		config.Mode = Sentinel
	case config.Mode == "":
		config.Mode = Single
	}
	db := strings.Trim(parsed.Path, "/")
	if given := take("db"); given != "" {
		db = given
	}
	if db != "" {
		if config.DB, err = strconv.Atoi(db); err != nil || config.DB < 0 {
			return Config{}, fmt.Errorf("parse redis url: the database is %q, expected a number", db)
		}
	}
	if parsed.Scheme == "rediss" {
		if config.TLS, err = urlTLS(take); err != nil {
			return Config{}, fmt.Errorf("parse redis url: %w", err)
		}
	}
	for name := range values {
		return Config{}, fmt.Errorf("parse redis url: unknown parameter %q: expected addr, mode, master_name, sentinel_username, sentinel_password, db, and with rediss ca_file, cert_file, key_file, server_name, skip_verify", name)
	}
	completed := config // what the caller leaves out is filled in later
	return config, completed.complete()
}

var errURL = errors.New("parse redis url: expected redis://user:password@host:port/db, or rediss:// for TLS; special characters in passwords must be percent-encoded")

func urlTLS(take func(string) string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: take("server_name")}
	switch skip := take("skip_verify"); skip {
	case "", "false":
	case "true":
		config.InsecureSkipVerify = true //nolint:gosec // the user's explicit wish
	default:
		return nil, fmt.Errorf("skip_verify is %q, expected true or false", skip)
	}
	if file := take("ca_file"); file != "" {
		authorities, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, fmt.Errorf("read ca_file: %s has no certificate in PEM form", file)
		}
	}
	if certificate, key := take("cert_file"), take("key_file"); certificate != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("read cert_file and key_file: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
