package framework_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework"
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
