package demo

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework/config"
)

// Its marks would make duplicates of the orders of another run with the same seed.
func TestAFileOfAnEarlierRunIsRefused(t *testing.T) {
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "shop.db")
	drop, err := placeSQL(t.Context(), t.TempDir(), dsn)
	require.NoError(t, err)
	shop, err := openShop(t.Context(), config.DSN(dsn))
	require.NoError(t, err)
	require.NoError(t, shop.Close())
	require.NoError(t, drop())

	_, err = placeSQL(t.Context(), t.TempDir(), dsn)
	require.EqualError(t, err, "--sql: the SQLite file holds the shipments of an earlier run: remove it, or name another file")
}
