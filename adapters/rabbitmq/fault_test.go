package rabbitmq_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
	"github.com/hapax-go/hapax/internal/fault/proxy"
	"github.com/hapax-go/hapax/internal/servers"
)

func TestMain(m *testing.M) {
	fault.ChildMain(map[string]func(context.Context, []string) int{"worker": worker})
	goleak.VerifyTestMain(m)
}

// soak makes the fault scenarios long: HAPAX_SOAK=1.
func soak() bool { return os.Getenv("HAPAX_SOAK") == "1" }

// scenario is a run with faults.
type scenario struct {
	workerSettings
	workload fault.Workload
	strikes  []fault.Strike
	// meanwhile runs beside the faults, until its context ends.
	meanwhile func(ctx context.Context)
	// failpoints of the first children, by number.
	failpoints []string
	// gentle: the faults need not cause redeliveries.
	gentle bool
}

func (s scenario) run(t *testing.T) fault.Report {
	t.Helper()
	s.Folder = t.TempDir()
	s.Topic = newTopic(t)
	if strings.HasPrefix(s.Ledger, "postgres:") && !s.Plain {
		makeTables(t, s.Topic)
	}
	direct := s.workerSettings
	direct.URL = servers.Require(t, servers.RabbitMQ).URL
	if s.URL == "" {
		s.URL = direct.URL
	}
	broker, err := rabbitmq.Open(t.Context(), direct.config())
	require.NoError(t, err)
	defer func() { require.NoError(t, broker.Close()) }()
	in, out := s.stages()
	for topic, group := range map[string]string{in: relayGroup, out: bookGroup} {
		subscriber, err := broker.Subscriber(adapters.Subscription{Group: group})
		require.NoError(t, err)
		require.NoError(t, subscriber.(message.SubscribeInitializer).SubscribeInitialize(topic))
	}
	books, err := effects.Open(t.Context(), filepath.Join(s.Folder, "books"))
	require.NoError(t, err)
	defer books.Close()
	tried, err := effects.Open(t.Context(), filepath.Join(s.Folder, "tried"))
	require.NoError(t, err)
	defer tried.Close()

	fleet := fault.NewFleet(func(number int) fault.Command {
		settings := s.workerSettings
		settings.Name = fmt.Sprint("consumer-", number)
		encoded, _ := json.Marshal(settings)
		command := fault.Command{Name: settings.Name, Role: "worker", Args: []string{string(encoded)}}
		if number <= len(s.failpoints) {
			command.Failpoints = s.failpoints[number-1]
		}
		return command
	}, nil)
	defer fleet.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	require.NoError(t, fleet.Start(ctx, 3))

	var sent fault.Sent
	publishing := make(chan error, 1)
	go func() { publishing <- publishWorkload(broker, in, s.workload, &sent) }()
	faults, endFaults := context.WithCancel(ctx)
	if s.meanwhile != nil {
		over := make(chan struct{})
		go func() { defer close(over); s.meanwhile(faults) }()
		defer func() { endFaults(); <-over }()
	}
	runner := fault.Runner{
		Fleet: fleet, Plan: fault.Plan{Seed: s.workload.Seed, Effects: int64(s.workload.Events), Duration: time.Minute, Strikes: s.strikes},
		Progress: func(ctx context.Context) (int64, error) { return effects.Progress(ctx, books) },
	}
	striking, stopStriking := context.WithCancel(faults)
	struck := make(chan error, 1)
	go func() {
		var err error
		if len(s.strikes) > 0 {
			_, err = runner.Run(striking)
		}
		struck <- err
	}()
	require.NoError(t, <-publishing)
	earlier, err := effects.Read(ctx, books)
	require.NoError(t, err)

	// The server says what is ready, and not what is unacknowledged; so wait for
	// the effects too. That they are no more than expected, the oracle looks at.
	left, err := fault.Drain(ctx, func(ctx context.Context) (map[string]int64, error) {
		left := map[string]int64{}
		for topic, group := range map[string]string{in: relayGroup, out: bookGroup} {
			depth, err := broker.Depth(ctx, topic, group)
			if err != nil {
				return nil, err
			}
			left[group] = int64(depth.Ready)
		}
		count, err := effects.ReadCount(ctx, books)
		left["missing"] = max(0, int64(s.workload.Events)-count.Events)
		return left, err
	})
	require.NoError(t, err)
	stopStriking()
	require.NoError(t, <-struck)
	endFaults()
	require.NoError(t, fleet.Shutdown(30*time.Second))
	require.NoError(t, fleet.Err())

	observation := fault.Observation{
		Expected: sent.Expected(), Earlier: earlier, Left: left, Counts: fleet.Counts(),
		Unordered: !s.Single, MayNotRedeliver: s.gentle,
	}
	observation.Effects, err = effects.Read(t.Context(), books)
	require.NoError(t, err)
	observation.Deliveries, err = effects.ReadDeliveries(t.Context(), tried)
	require.NoError(t, err)
	report := fault.Check(observation)
	t.Logf("%+v", report.Summary())
	return report
}

// publishWorkload sends everything, each send until it is confirmed.
func publishWorkload(broker *rabbitmq.Broker, topic string, workload fault.Workload, sent *fault.Sent) error {
	publisher := broker.Publisher()
	var batch []*message.Message
	var events []fault.Event
	flush := func() error {
		for deadline := time.Now().Add(time.Minute); ; {
			err := publisher.Publish(topic, batch...)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return err
			}
		}
		for _, event := range events {
			sent.Record(event, fault.SendOK)
		}
		batch, events = nil, nil
		return nil
	}
	for send := range workload.Sends() {
		payload, err := json.Marshal(send.Event)
		if err != nil {
			return err
		}
		msg := message.NewMessage(send.ID+"/"+strconv.Itoa(send.Copy), payload)
		msg.Metadata = message.Metadata{dedup.MetaEventID: send.ID, dedup.MetaKey: send.Key, metaCopy: strconv.Itoa(send.Copy)}
		batch, events = append(batch, msg), append(events, send.Event)
		if len(batch) == 50 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(batch) > 0 {
		return flush()
	}
	return nil
}

func killScenario() scenario {
	s := scenario{
		workload: fault.Workload{Seed: uint64(time.Now().UnixNano()), Events: 600, Pad: 200, Duplicates: 0.2},
		strikes:  []fault.Strike{{Action: fault.ActionKill, EveryEffects: 80, Jitter: 0.3}},
	}
	if soak() {
		s.workload.Events = 100_000
		s.strikes = []fault.Strike{{Action: fault.ActionKill, Every: 2 * time.Second}}
	}
	return s
}

// Consumers are killed all the time.
func TestKilled(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s scenario, _ []*proxy.Proxy) {
		control := s
		control.Plain = true
		require.NoError(t, fault.Verdict(s.run(t), control.run(t)))
	}, false)
}

// The same with one active consumer a queue: also in order per key.
func TestKilledInOrder(t *testing.T) {
	s := killScenario()
	s.Single = true
	// So that the active one of the first queue dies, more than once.
	s.failpoints = []string{"after-handle@50", "after-publish@50", "before-ack@50"}
	t.Logf("seed %d", s.workload.Seed)
	require.NoError(t, s.run(t).Err())
}

// Each process dies at a point of the processing order.
func TestKilledAtEveryPoint(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s scenario, _ []*proxy.Proxy) {
		s.workload.Events, s.strikes = 500, nil
		for _, point := range []string{"after-claim", "after-handle", "before-publish", "after-publish", "before-mark", "after-mark", "before-ack", "after-ack"} {
			s.failpoints = append(s.failpoints, point+"@20")
		}
		report := s.run(t)
		require.NoError(t, report.Err())
		require.GreaterOrEqual(t, report.Kills, len(s.failpoints))
	}, false)
}

// throughProxy puts a proxy before a server, and returns the URL to give to clients.
func throughProxy(t *testing.T, server string, seed uint64) (*proxy.Proxy, string) {
	t.Helper()
	address := servers.Require(t, server)
	between, err := proxy.Listen(address.Hosts[0], seed)
	require.NoError(t, err)
	t.Cleanup(between.Close)
	parsed, err := url.Parse(address.URL)
	require.NoError(t, err)
	parsed.Host = between.Addr()
	return between, parsed.String()
}

// stores are the ledgers that scenarios run with; the embedded one has no URL, and
// its turn in the soak.
func stores() []string {
	if soak() {
		return []string{servers.Redis, servers.Postgres, ""}
	}
	return []string{servers.Redis, servers.Postgres}
}

// onEveryStore runs a scenario once for each ledger. With a faulty one, the ledger's
// connections suffer as the broker's do.
func onEveryStore(t *testing.T, run func(t *testing.T, s scenario, proxies []*proxy.Proxy), faulty bool) {
	for _, store := range stores() {
		t.Run(cmp.Or(store, "sqlite"), func(t *testing.T) {
			s := killScenario()
			t.Logf("seed %d", s.workload.Seed)
			var proxies []*proxy.Proxy
			if faulty {
				between, address := throughProxy(t, servers.RabbitMQ, s.workload.Seed)
				s.URL, proxies = address, append(proxies, between)
			}
			switch {
			case store != "" && faulty:
				between, address := throughProxy(t, store, s.workload.Seed+1)
				s.Ledger, proxies = address, append(proxies, between)
			case store != "":
				s.Ledger = servers.Require(t, store).URL
			}
			run(t, s, proxies)
		})
	}
}

// Every connection of the consumers dies within one and a half seconds, those to
// the ledger too.
func TestConnectionChaos(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s scenario, proxies []*proxy.Proxy) {
		s.strikes, s.workload.Events = nil, max(6000, s.workload.Events)
		for _, between := range proxies {
			between.CutEvery(500*time.Millisecond, 1500*time.Millisecond)
		}
		require.NoError(t, s.run(t).Err())
		for _, between := range proxies {
			require.Positive(t, between.Stats().Cut)
		}
	}, true)
}

// Three in ten answers get lost, confirms and marks among them, with the connection
// after them.
func TestLostAnswers(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s scenario, proxies []*proxy.Proxy) {
		s.strikes, s.workload.Events = nil, max(2000, s.workload.Events)
		for _, between := range proxies {
			between.DropResponses(proxy.Drop{Fraction: 0.3, Spare: 40, Delay: 100 * time.Millisecond})
		}
		require.NoError(t, s.run(t).Err())
		for _, between := range proxies {
			require.Positive(t, between.Stats().Dropped)
		}
	}, true)
}

// The server is restarted in the middle, once in order and once by kill -9. It
// is every test's server; run this alone.
func TestServerRestarts(t *testing.T) {
	if !soak() {
		t.Skip("restarts the server under every other test: set HAPAX_SOAK=1")
	}
	for name, hard := range map[string]bool{"clean": servers.Clean, "hard": servers.Hard} {
		t.Run(name, func(t *testing.T) {
			s := killScenario()
			s.strikes = nil
			s.workload.Events = 20_000
			s.meanwhile = func(ctx context.Context) {
				select {
				case <-time.After(2 * time.Second):
				case <-ctx.Done():
				}
				if err := servers.Restart(context.WithoutCancel(ctx), servers.RabbitMQ, hard); err != nil {
					t.Error(err)
				}
			}
			require.NoError(t, s.run(t).Err())
		})
	}
}
