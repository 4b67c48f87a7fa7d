package sqlite_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters/sqlite"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/failpoint"
	"github.com/hapax-go/hapax/internal/fault"
)

var producerWorkload = fault.Workload{Seed: 77, Events: 60, Keys: 8, Duplicates: 0.2}

// producerMain sends, one by one, what is left of producerWorkload after a number
// of confirmed sends, and tells the harness of each. It idles at the end.
func producerMain(ctx context.Context, args []string) int {
	confirmed, err := strconv.Atoi(args[1])
	if err == nil {
		err = produceFrom(ctx, args[0], confirmed)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	<-ctx.Done()
	return 0
}

func produceFrom(ctx context.Context, folder string, confirmed int) error {
	broker, err := sqlite.Open(ctx, acceptanceConfig(folder))
	if err != nil {
		return err
	}
	defer broker.Close()
	if err := fault.Ready(ctx); err != nil {
		return err
	}
	sends := slices.Collect(producerWorkload.Sends())
	for i, send := range sends[confirmed:] {
		if err := broker.Publisher().Publish(input, messageOf(send, 0)); err != nil {
			return err
		}
		if err := fault.Emit(ctx, confirmed+i+1); err != nil {
			return err
		}
	}
	return nil
}

// Scenario 7 on the producer's side: it is killed around a publish, does not learn
// what became of it, and sends again.
func TestAcceptanceProducerCrashPoints(t *testing.T) {
	t.Parallel()
	for _, point := range []failpoint.Point{failpoint.BeforePublish, failpoint.AfterPublish} {
		t.Run(string(point), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r := &run{scenario: scenario{consumers: 1, mild: true}, folder: t.TempDir(), claim: dedup.Optimistic}
			r.open(t)
			defer r.close(t)
			require.NoError(t, r.fleet.Start(ctx, r.consumers))

			var confirmed atomic.Int64
			producers := fault.NewFleet(func(n int) fault.Command {
				command := fault.Command{
					Name: fmt.Sprintf("producer-%d", n), Role: "producer", Args: []string{r.folder, fmt.Sprint(confirmed.Load())},
					OnEvent: func(data json.RawMessage) {
						var n int64
						if json.Unmarshal(data, &n) == nil {
							confirmed.Store(n)
						}
					},
				}
				if n <= 3 {
					command.Failpoints = fmt.Sprintf("%s@%d", point, 5*n)
				}
				return command
			}, nil)
			defer func() { require.NoError(t, producers.Close()) }()
			require.NoError(t, producers.Start(ctx, 1))
			sends := slices.Collect(producerWorkload.Sends())
			require.Eventually(t, func() bool { return confirmed.Load() == int64(len(sends)) }, time.Minute, 10*time.Millisecond)
			require.NoError(t, producers.Err())
			require.Equal(t, 3, producers.Counts().Kills)

			for _, send := range sends {
				r.sent.Record(send.Event, fault.SendOK)
			}
			report := r.judge(ctx, t)
			require.NoError(t, report.Err())
			if point == failpoint.AfterPublish {
				require.Positive(t, report.Redeliveries, "the same copy was stored twice")
			}
		})
	}
}
