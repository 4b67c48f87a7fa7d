package effects_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
)

func TestMain(m *testing.M) {
	fault.ChildMain(map[string]func(context.Context, []string) int{"opener": opener})
	goleak.VerifyTestMain(m)
}

// opener opens, fills and closes one new file after the other, in step with the
// other openers as far as the clock goes.
func opener(ctx context.Context, args []string) int {
	_ = fault.Ready(ctx)
	for i := range 50 {
		db, err := effects.Open(ctx, filepath.Join(args[0], fmt.Sprint(i)))
		if err == nil {
			err = effects.Insert(ctx, db, one)
		}
		if err == nil {
			err = db.Close()
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
	}
	return 0
}

// The children of a fleet make the store together.
func TestOpenAtOnce(t *testing.T) {
	folder := t.TempDir()
	var openers []*fault.Child
	for i := range 4 {
		child, err := fault.Start(fault.Command{Name: fmt.Sprint("opener-", i), Role: "opener", Args: []string{folder}})
		require.NoError(t, err)
		defer func() { require.NoError(t, child.Close()) }()
		openers = append(openers, child)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	for _, child := range openers {
		exit, err := child.Wait(ctx)
		require.NoError(t, err)
		require.Zero(t, exit, "%s", child.Failure("opened"))
	}
}
