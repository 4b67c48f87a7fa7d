package framework_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
)

// The files of a tls block lie beside the config, wherever the process runs.
func TestTLSFilesBesideTheConfig(t *testing.T) {
	folder := t.TempDir()
	authority, path := filepath.Join(folder, "ca.pem"), filepath.Join(folder, "hapax.yaml")
	require.NoError(t, os.WriteFile(authority, []byte("not PEM"), 0o600))
	for block, address := range map[string]string{
		"kafka": `brokers: ["127.0.0.1:1"]`, "redis": `addresses: ["127.0.0.1:1"]`, "rabbitmq": `url: "amqps://127.0.0.1:1/"`,
	} {
		t.Run(block, func(t *testing.T) {
			text := fmt.Sprintf("service: shop\nbroker: %s\ndedup: {allow_volatile: true, ledger: {store: memory}}\n%s:\n  %s\n  tls: {enabled: true, ca_file: ca.pem}\n", block, block, address)
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			cfg, err := config.Load(path, nil)
			require.NoError(t, err)
			_, err = framework.New(t.Context(), cfg)
			require.ErrorContains(t, err, "read ca_file: "+authority+" has no certificate in PEM form")
		})
	}
}

// So do those that the URL of a ledger names.
func TestLedgerURLFilesBesideTheConfig(t *testing.T) {
	folder := t.TempDir()
	authority, path := filepath.Join(folder, "ca.pem"), filepath.Join(folder, "hapax.yaml")
	require.NoError(t, os.WriteFile(authority, []byte("not PEM"), 0o600))
	text := fmt.Sprintf("service: shop\nsqlite: {path: %q}\ndedup: {strategy: consumer, ledger: {dsn: \"rediss://:a%%2Fb@127.0.0.1:1/?server_name=n&ca_file=ca.pem\"}}\n", filepath.Join(folder, "hapax.db"))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	cfg, err := config.Load(path, nil)
	require.NoError(t, err)
	found := framework.Diagnose(t.Context(), cfg, slog.New(slog.DiscardHandler), map[string]string{"orders": "orders"})
	at := slices.IndexFunc(found, func(f adapters.Finding) bool { return f.Name == "ledger-connection" })
	require.GreaterOrEqual(t, at, 0, "%+v", found)
	require.Contains(t, found[at].Problem, "read ca_file: "+authority+" has no certificate in PEM form")
}
