package sqlite_test

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/internal/fault"
)

// The test binary is also the processes that the tests kill.
func TestMain(m *testing.M) {
	fault.ChildMain(map[string]func(context.Context, []string) int{"consumer": consumerMain, "producer": producerMain})
	goleak.VerifyTestMain(m)
}
