package framework_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

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
