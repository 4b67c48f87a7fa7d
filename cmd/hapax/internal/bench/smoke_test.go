package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
)

// TestEveryVariantCountsRight runs a few small rounds of everything with copies
// of messages among the input. Run itself checks after each round that every
// message was handled and, by variants with deduplication, took effect once.
func TestEveryVariantCountsRight(t *testing.T) {
	for _, broker := range Brokers() {
		t.Run(broker.Name, func(t *testing.T) {
			report, err := Run(t.Context(), Options{
				Brokers: []string{broker.Name}, Rounds: 1, Messages: 200, Duplicates: 25, Payload: 64, InFlight: 50, Seed: 1,
			})
			require.NoError(t, err)
			require.Len(t, report.Rows, len(cases)*len(broker.Variants))
			for _, row := range report.Rows {
				require.Positive(t, row.MessagesPerSecond, "%+v", row)
				require.LessOrEqual(t, row.Min, row.MessagesPerSecond, "%+v", row)
				require.GreaterOrEqual(t, row.Max, row.MessagesPerSecond, "%+v", row)
				require.Positive(t, row.P50, "%+v", row)
				require.GreaterOrEqual(t, row.P99, row.P50, "%+v", row)
			}
		})
	}
}

// TestCopiesRunTheHandlerOnce looks at the counts themselves, which Run's check
// cannot be trusted with if it is wrong.
func TestCopiesRunTheHandlerOnce(t *testing.T) {
	load := Load{Messages: 300, Copies: 100}
	for _, broker := range Brokers() {
		for _, variant := range broker.Variants {
			t.Run(broker.Name+" "+variant.Name, func(t *testing.T) {
				lane, err := variant.Open(t.Context(), Env{Produce: true, Payload: []byte("x"), InFlight: 20, Folder: t.TempDir() + "/lane"})
				require.NoError(t, err)
				defer func() { require.NoError(t, lane.Close()) }()
				counts, err := lane.Round(t.Context(), load, NewMeter())
				require.NoError(t, err)
				want := Counts{Handled: 400, Outputs: 400}
				if variant.Once {
					want = Counts{Handled: 300, Outputs: 300}
				}
				if variant.Effects {
					want.Effects = 300
				}
				require.Equal(t, want, counts)
			})
		}
	}
}

// A broker without a server is another mistake than one that is not known.
func TestABrokerWithoutItsServer(t *testing.T) {
	t.Setenv(servers.DirVariable, t.TempDir())
	for name, needed := range needs {
		for _, server := range needed {
			t.Setenv(servers.Variable(server), "")
		}
		err := (&Options{Brokers: []string{name}, Rounds: 1, InFlight: 1}).validate()
		require.ErrorContains(t, err, fmt.Sprintf("--broker %s: no %s server found: run `make servers ONLY=%[2]s`, or set HAPAX_TEST_", name, needed[0]))
		require.NotContains(t, err.Error(), "not known")
	}
}

func TestWrongCountsEndTheBenchmark(t *testing.T) {
	g := &group{name: ConsumeProduce}
	load := Load{Messages: 10, Copies: 2}
	once := Variant{Once: true, Effects: true}
	require.NoError(t, g.check(Variant{}, load, Counts{Handled: 12, Outputs: 12}))
	require.NoError(t, g.check(once, load, Counts{Handled: 10, Outputs: 10, Effects: 10}))
	require.NoError(t, g.check(once, load, Counts{Handled: 11, Outputs: 10, Effects: 10}), "the loser of a race ran, without effect")
	for _, wrong := range []Counts{
		{Handled: 9, Outputs: 10, Effects: 10},
		{Handled: 13, Outputs: 10, Effects: 10},
		{Handled: 10, Outputs: 9, Effects: 10},
		{Handled: 10, Outputs: 11, Effects: 10},
		{Handled: 10, Outputs: 10, Effects: 9},
		{Handled: 10, Outputs: 10, Effects: 12},
	} {
		require.ErrorContains(t, g.check(once, load, wrong), "expected {Handled:10 Outputs:10 Effects:10}", "%+v", wrong)
	}
	require.Error(t, g.check(Variant{}, load, Counts{Handled: 10, Outputs: 10}), "without deduplication copies count")
}

func TestRoundsAreInterleaved(t *testing.T) {
	var progress bytes.Buffer
	_, err := Run(t.Context(), Options{
		Brokers: []string{"memory"}, Cases: []string{Consume}, Rounds: 3, Messages: 50, InFlight: 10, Seed: 1, Progress: &progress,
	})
	require.NoError(t, err)
	names := []string{Raw, Watermill, Hapax, HapaxDedup}
	lines := strings.Split(progress.String(), "\n")
	for round := 1; round <= 3; round++ {
		for _, i := range order(1, len(names), round) {
			require.Contains(t, lines[0], fmt.Sprintf("memory consume %s: round %d of 3", names[i], round))
			lines = lines[1:]
		}
	}
}

func TestCommand(t *testing.T) {
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		command := Command()
		command.SilenceUsage, command.SilenceErrors = true, true
		command.SetArgs(args)
		command.SetOut(&out)
		command.SetErr(&bytes.Buffer{})
		err := command.ExecuteContext(t.Context())
		return out.String(), err
	}
	small := []string{"--broker", "memory", "--variant", "raw,watermill", "--case", "consume", "--rounds", "1", "--messages", "50"}
	out, err := run(append(small, "--json")...)
	require.NoError(t, err)
	var report Report
	require.NoError(t, json.Unmarshal([]byte(out), &report), "one object and nothing else")
	require.Len(t, report.Rows, 2)
	out, err = run(small...)
	require.NoError(t, err)
	require.Contains(t, out, "/ watermill")

	for args, message := range map[string]string{
		"--broker nats":                       "--broker nats is not known: expected one of memory, sqlite", // and those that have a server
		"--case produce":                      "--case produce is not known: expected one of consume, consume-produce",
		"--variant fast":                      "--variant fast is not known: expected one of raw, watermill, hapax, hapax-dedup, hapax-inbox",
		"--rounds 0":                          "--rounds is 0: expected 1 to 1000",
		"--in-flight 0":                       "--in-flight is 0: expected 1 to 1000000",
		"--broker sqlite --variant watermill": "nothing to measure: the selected brokers have no variant [watermill]",
	} {
		_, err := run(strings.Fields(args)...)
		require.ErrorContains(t, err, message)
	}
}
