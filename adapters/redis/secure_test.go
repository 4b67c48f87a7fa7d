package redis_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/adaptertest"
	"github.com/hapax-go/hapax/adapters/redis"
)

// certify makes an authority, and a certificate for 127.0.0.1 that serves both sides.
func certify(t *testing.T) (ca, certificate, key string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	authority := template(1, "authority")
	authority.IsCA, authority.BasicConstraintsValid, authority.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, &authorityKey.PublicKey, authorityKey)
	require.NoError(t, err)
	ca = write("ca.pem", "CERTIFICATE", der)

	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	leaf := template(2, "node")
	leaf.IPAddresses, leaf.KeyUsage = []net.IP{net.IPv4(127, 0, 0, 1)}, x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err = x509.CreateCertificate(rand.Reader, leaf, authority, &own.PublicKey, authorityKey)
	require.NoError(t, err)
	certificate = write("node.pem", "CERTIFICATE", der)
	der, err = x509.MarshalPKCS8PrivateKey(own)
	require.NoError(t, err)
	return ca, certificate, write("node.key", "PRIVATE KEY", der)
}

// user is the option that makes a user.
func user(rules string) []string { return append([]string{"--user"}, strings.Fields(rules)...) }

// The permissions that doc.go names are enough, over TLS with a client certificate:
// the whole suite runs as that user.
func TestConformanceWithTLSAndUser(t *testing.T) {
	t.Parallel()
	ca, certificate, key := certify(t)
	files := "?ca_file=" + ca + "&cert_file=" + certificate + "&key_file=" + key
	config, err := redis.ParseURL("rediss://shop:hunter2@127.0.0.1:0" + files)
	require.NoError(t, err)
	server := startTLSServer(t, config.TLS, slices.Concat([]string{"--tls-ca-cert-file", ca, "--tls-cert-file", certificate, "--tls-key-file", key},
		user("default off"), user("shop on >hunter2 ~* &* -@all "+redis.Permissions))...)
	config.Addresses = []string{server.address}
	adaptertest.Run(t, harness(config))
	broker, err := redis.Open(t.Context(), config)
	require.NoError(t, err)
	for _, finding := range broker.Check(t.Context()) {
		require.NotContains(t, finding.Problem, "refused")
	}
	require.NoError(t, broker.Close())

	for message, change := range map[string]func(*redis.Config){
		"check redis.username and redis.password": func(c *redis.Config) { c.Password = "wrong" },
		"unknown authority":                       func(c *redis.Config) { c.TLS = &tls.Config{MinVersion: tls.VersionTLS12} },
		"redis.tls":                               func(c *redis.Config) { c.TLS = nil },
	} {
		changed := config
		changed.Timeout = time.Second
		change(&changed)
		_, err := redis.Open(t.Context(), changed)
		require.ErrorContains(t, err, message)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

// A user that may not do what is needed is told so by name.
func TestUserWithoutPermission(t *testing.T) {
	t.Parallel()
	server := startServer(t, user("shop on >hunter2 ~* -@all +ping +client +hello")...)
	broker, err := redis.Open(t.Context(), redis.Config{Addresses: []string{server.address}, Username: "shop", Password: "hunter2", Logger: quiet})
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group"})
	require.NoError(t, err)
	_, err = subscriber.Subscribe(t.Context(), newTopic(t))
	require.ErrorContains(t, err, "NOPERM")
	require.ErrorContains(t, err, "redis.Permissions")
}
