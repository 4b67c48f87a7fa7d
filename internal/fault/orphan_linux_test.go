package fault_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/fault"
)

// On Linux even a program that knows nothing of its harness dies with it.
func TestNoForeignOrphans(t *testing.T) {
	received, onEvent := numbers()
	child := start(t, fault.Command{Name: "harness", Role: "harness", Args: []string{"foreign"}, OnEvent: onEvent})
	grandchild := receive(t, received)
	require.NoError(t, child.Kill())
	wait(t, child)
	gone(t, grandchild)
}
