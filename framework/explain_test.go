package framework_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
)

// The explanation names the setting that chose a handler's strategy.
func TestExplainSaysWhatChoseTheStrategy(t *testing.T) {
	cfg := parse(t, "dedup: {strategy: none}\n"+
		"handlers: {orders: {strategy: message-id}, orders.created: {strategy: consumer}, returns: {strategy: auto}, plain: {}}\n")
	for handler, want := range map[string]string{
		"orders":         `hapax.yaml:6:31 asks for it`,
		"orders.created": `hapax.yaml:6:71 asks for it`,
		"returns":        "the rules table has it for broker sqlite",
		"plain":          "hapax.yaml:5:19 asks for it",
		"other":          "hapax.yaml:5:19 asks for it",
	} {
		explained, err := framework.Explain(cfg, handler, handler)
		require.NoError(t, err)
		require.Equal(t, want, explained.Chosen, handler)
	}
}

// The embedded broker's own file is that, however sql.dsn spells it.
func TestTheBrokersOwnFileIsKnownInEverySpelling(t *testing.T) {
	folder := t.TempDir()
	t.Chdir(folder)
	for dsn, own := range map[string]bool{
		"hapax.db": true, "./data/../hapax.db": true, "sqlite:hapax.db": true, "file://hapax.db": true,
		"file:hapax.db?synchronous=normal": true, "sqlite://" + folder + "/hapax.db?synchronous=full": true,
		"shop.db": false, "file:shop.db?synchronous=normal": false, "postgres://h/hapax.db": false,
	} {
		cfg, err := config.Parse("hapax.yaml", []byte("service: a\nsqlite: {path: hapax.db}\nsql: {dsn: \""+dsn+"\"}\n"), nil)
		require.NoError(t, err)
		explained, err := framework.Explain(cfg, "orders", "orders")
		require.NoError(t, err)
		require.Equal(t, own, strings.Contains(explained.Effects[1].Guarantee, "in the broker's own file"), dsn)
	}
}
