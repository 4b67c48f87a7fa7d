package framework

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/hapax-go/hapax/framework/config"
)

// tlsConfig is what a broker's tls block says; nil when it is not enabled.
func tlsConfig(cfg *config.Config, settings config.TLS) (*tls.Config, error) {
	if !settings.Enabled {
		return nil, nil
	}
	result := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: settings.ServerName,
		InsecureSkipVerify: settings.InsecureSkipVerify, //nolint:gosec // the user's explicit wish
	}
	if settings.CAFile != "" {
		file := cfg.File(settings.CAFile)
		authorities, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		result.RootCAs = x509.NewCertPool()
		if !result.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, fmt.Errorf("read ca_file: %s has no certificate in PEM form", file)
		}
	}
	if settings.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(cfg.File(settings.CertFile), cfg.File(settings.KeyFile))
		if err != nil {
			return nil, fmt.Errorf("read cert_file and key_file: %w", err)
		}
		result.Certificates = []tls.Certificate{certificate}
	}
	return result, nil
}
