package acceptance_test

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/internal/fault"
)

// soak asks for the full sizes of the scenarios instead of those that fit into every
// test run.
var soak = os.Getenv("HAPAX_SOAK") == "1"

var quiet = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) {
	fault.ChildMain(map[string]func(context.Context, []string) int{roleConsumer: consumerMain})
	// Runs mostly wait: for visibility to run out, for the dead to be replaced.
	_ = flag.Set("test.parallel", "8")
	goleak.VerifyTestMain(m)
}
