package main

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/internal/servers/launch"
)

type settings map[string]string

// kafkaAdmin plants topics.
type kafkaAdmin struct {
	*kadm.Client
	client *kgo.Client
	hosts  []string
}

func newKafkaAdmin(t *testing.T, hosts []string) kafkaAdmin {
	client, err := kgo.NewClient(kgo.SeedBrokers(hosts...))
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return kafkaAdmin{kadm.NewClient(client), client, hosts}
}

// create makes a topic and waits until each broker knows it: they learn of it one after
// the other, and doctor asks any.
func (a kafkaAdmin) create(t *testing.T, topic string, replicas int16, with settings) {
	values := map[string]*string{}
	for name, value := range with {
		values[name] = &value
	}
	_, err := a.CreateTopic(t.Context(), 2, replicas, values, topic)
	require.NoError(t, err)
	brokers, err := a.ListBrokers(t.Context())
	require.NoError(t, err)
	for _, broker := range brokers {
		asked := kmsg.NewMetadataRequestTopic()
		asked.Topic = &topic
		request := kmsg.NewPtrMetadataRequest()
		request.Topics = append(request.Topics, asked)
		require.Eventually(t, func() bool {
			found, err := request.RequestWith(t.Context(), a.client.Broker(int(broker.NodeID)))
			return err == nil && len(found.Topics) == 1 && found.Topics[0].ErrorCode == 0 && len(found.Topics[0].Partitions) == 2
		}, 20*time.Second, 20*time.Millisecond)
	}
	t.Cleanup(func() { _, _ = a.DeleteTopics(context.WithoutCancel(t.Context()), topic) })
}

// plant returns a service on a topic with these settings; its dead letters are in
// order.
func (a kafkaAdmin) plant(replicas int16, with settings) func(t *testing.T) (string, string) {
	return func(t *testing.T) (string, string) {
		topic := uniqueTopic()
		a.create(t, topic, replicas, with)
		return a.config(), topic
	}
}

func (a kafkaAdmin) config() string {
	return fmt.Sprintf("service: fulfilment\nbroker: kafka\nkafka: {brokers: [%q]}\n", a.hosts[0])
}

func TestDoctorOnKafka(t *testing.T) {
	admin := newKafkaAdmin(t, servers.Require(t, servers.Kafka).Hosts)
	find(t, []misconfiguration{
		{what: "no topic", plant: func(*testing.T) (string, string) { return admin.config(), uniqueTopic() }, check: "kafka-topic", says: "cannot be looked up"},
		{what: "more replicas in sync than there are", plant: admin.plant(1, settings{"min.insync.replicas": "2"}), check: "kafka-min-isr", says: "min.insync.replicas=2, but it has 1 replicas: no transaction can commit"},
		{what: "a leader that was not in sync", plant: admin.plant(1, settings{"unclean.leader.election.enable": "true"}), check: "kafka-unclean-election", says: "can vanish", runs: true},
		{what: "messages kept longer than the window", plant: admin.plant(1, settings{"retention.ms": "2592000000"}), check: "kafka-retention", says: "720h0m0s, longer than dedup.window of 168h0m0s", runs: true},
		{what: "messages kept for ever", plant: admin.plant(1, settings{"retention.ms": "-1"}), check: "kafka-retention", says: "for ever, but dedup.window is 168h0m0s", runs: true},
		{what: "compaction of the input", plant: admin.plant(1, settings{"cleanup.policy": "compact"}), check: "kafka-retention", says: "may remove an event before it was processed"},
		{what: "compaction of the processed IDs", plant: func(t *testing.T) (string, string) {
			configuration, topic := admin.plant(1, nil)(t)
			admin.create(t, "fulfilment."+topic+"."+topic+".hapax-ids", 1, settings{"cleanup.policy": "compact"})
			return configuration, topic
		}, check: "kafka-id-log", says: "cleanup.policy=compact"},
		{what: "one replica on one broker", plant: admin.plant(1, nil), check: "kafka-replication", says: "1 replica on 1 brokers", warning: true},
		{what: "no topic for dead letters", plant: admin.plant(1, nil), check: "kafka-dead-letters", says: "cannot be looked up", warning: true},
	})

	healthy := uniqueTopic()
	admin.create(t, healthy, 1, nil)
	admin.create(t, dedup.DeadLetterTopic(healthy), 1, nil)
	_, err := doctor(t, admin.config(), healthy)
	require.NoError(t, err)
}

// What needs more than one broker.
func TestDoctorOnAKafkaCluster(t *testing.T) {
	admin := newKafkaAdmin(t, kafkaCluster(t))
	find(t, []misconfiguration{
		{what: "one replica", plant: admin.plant(1, settings{"min.insync.replicas": "1"}), check: "kafka-replication", says: "1 replica on 3 brokers: a lost disk loses its messages", runs: true},
		{what: "one replica in sync is enough", plant: admin.plant(3, settings{"min.insync.replicas": "1"}), check: "kafka-min-isr", says: "min.insync.replicas=1, expected at least 2", runs: true},
		{what: "one replica of the processed IDs", plant: func(t *testing.T) (string, string) {
			configuration, topic := admin.plant(3, settings{"min.insync.replicas": "2"})(t)
			admin.create(t, "fulfilment."+topic+"."+topic+".hapax-ids", 1, settings{"min.insync.replicas": "1"})
			return configuration, topic
		}, check: "kafka-replication", says: "1 replica on 3 brokers"},
	})
	healthy := uniqueTopic()
	for _, topic := range []string{healthy, dedup.DeadLetterTopic(healthy)} {
		admin.create(t, topic, 3, settings{"min.insync.replicas": "2"})
	}
	found, err := doctor(t, admin.config(), healthy)
	require.NoError(t, err)
	require.Equal(t, "3 replicas", found["kafka-replication"].Found)
	require.Equal(t, "min.insync.replicas=2 of 3", found["kafka-min-isr"].Found)
}

// kafkaCluster is the one that runs, if it has several brokers, else one of the
// test's own, where real servers are insisted on: it takes as long as all else here.
func kafkaCluster(t *testing.T) []string {
	address := servers.Require(t, servers.Kafka)
	brokers, err := newKafkaAdmin(t, address.Hosts).ListBrokers(t.Context())
	require.NoError(t, err)
	if len(brokers) > 1 {
		return address.Hosts
	}
	servers.RequirePart(t, address, "second broker (REQUIRE_REAL=1 starts a cluster for this test)", servers.RequireReal() && address.Origin != servers.FromEnvironment)
	own := launch.Options{Dir: t.TempDir(), Root: filepath.Join("..", ".."), Only: []string{servers.Kafka}, Nodes: 3, Out: t.Output()}
	t.Cleanup(func() { require.NoError(t, launch.Down(context.WithoutCancel(t.Context()), own, true)) })
	up, err := launch.Up(t.Context(), own)
	require.NoError(t, err)
	require.NoError(t, up[0].Err)
	return up[0].Hosts
}
