package launch

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/internal/servers/process"
)

const (
	kafkaClusterID = "SGFwYXgtdGVzdC1zZXJ2ZQ" // 16 bytes in base64, any would do
	kafkaMain      = "kafka.Kafka"
	kafkaFormat    = "kafka.tools.StorageTool"
)

var (
	kafkaArtifact = artifact{"org.apache.kafka", "kafka_2.13", "4.1.1"}
	// Kafka logs through SLF4J and leaves the binding to its distribution.
	kafkaLogging = artifact{"org.apache.logging.log4j", "log4j-slf4j-impl", "2.24.3"}
)

var kafka = recipe{ports: kafkaPorts, address: kafkaAddress, services: kafkaServices, native: kafkaNative}

// Every node has a port for clients and brokers, and one for the controllers. A
// single node and a cluster prefer different ports, so that a client left over
// from one does not talk to the other.
func kafkaPorts(nodes int) []port {
	if nodes == 1 {
		return []port{{kafkaClients(1, 1), 29092}, {kafkaControllers(1, 1), 29192}, {kafkaSecure, 29292}}
	}
	var ports []port
	for i := 1; i <= nodes; i++ {
		ports = append(ports, port{kafkaClients(i, nodes), 29092 + i}, port{kafkaControllers(i, nodes), 29192 + i})
	}
	return ports
}

func kafkaClients(i, nodes int) string {
	if nodes == 1 {
		return "HAPAX_PORT_KAFKA"
	}
	return fmt.Sprintf("HAPAX_PORT_KAFKA_%d", i)
}

func kafkaControllers(i, nodes int) string { return kafkaClients(i, nodes) + "_CONTROLLER" }

func kafkaAddress(s *site) (servers.Address, error) {
	var hosts []string
	for i := 1; i <= s.nodes; i++ {
		hosts = append(hosts, s.at(kafkaClients(i, s.nodes)))
	}
	address, err := servers.ParseAddress(servers.Kafka, strings.Join(hosts, ","))
	if authority := s.authorityFile(); s.nodes == 1 && exists(authority) {
		address.Secure, address.CAFile = s.at(kafkaSecure), authority
	}
	return address, err
}

func kafkaServices(nodes int) []string {
	if nodes == 1 {
		return []string{"kafka"}
	}
	var names []string
	for i := 1; i <= nodes; i++ {
		names = append(names, fmt.Sprintf("kafka-%d", i))
	}
	return names
}

func kafkaNative(ctx context.Context, s *site) ([]process.Spec, string, error) {
	java, err := s.host.java(ctx, s)
	if err != nil {
		return nil, "", err
	}
	jars, err := s.host.jars(ctx, s, kafkaArtifact, kafkaLogging)
	if err != nil {
		return nil, "", err
	}
	logging, err := s.write("log4j2.properties", kafkaLog4j)
	if err != nil {
		return nil, "", err
	}
	heap := "-Xmx768m"
	if s.nodes > 1 {
		heap = "-Xmx512m"
	}
	jvm := []string{java, heap, "-Xms256m", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
		"-Djava.awt.headless=true", "-Djava.net.preferIPv4Stack=true", "-Dlog4j2.configurationFile=" + logging, "-cp", filepath.Join(jars, "*")}
	var secure []string
	if s.nodes == 1 {
		if secure, err = kafkaSecured(s); err != nil {
			return nil, "", err
		}
	}
	var nodes []process.Spec
	for i := 1; i <= s.nodes; i++ {
		name := fmt.Sprintf("node%d", i)
		data := filepath.Join(s.dir, "data", name)
		config, err := s.write(name+".properties", kafkaConfig(s, i, data, secure))
		if err != nil {
			return nil, "", err
		}
		if !exists(filepath.Join(data, "meta.properties")) {
			s.step("formatting the log folder of " + name)
			format := s.process(name+"-format", append(jvm, kafkaFormat, "format", "-t", kafkaClusterID, "-c", config)...)
			if err := process.Run(ctx, format); err != nil {
				return nil, "", err
			}
		}
		nodes = append(nodes, s.process(name, append(jvm, kafkaMain, config)...))
	}
	return nodes, "Maven " + kafkaArtifact.String(), nil
}

// kafkaConfig is a node that is broker and controller at once. Limits on session
// times are lowered so that fault tests need not wait 45 s, hung transactions
// are looked for every second rather than every ten, and the internal topics
// have few partitions because each costs start-up time.
func kafkaConfig(s *site, i int, data string, secure []string) string {
	copies, inSync := min(s.nodes, 3), min(s.nodes, 2)
	var voters []string
	for j := 1; j <= s.nodes; j++ {
		voters = append(voters, fmt.Sprintf("%d@%s", j, s.at(kafkaControllers(j, s.nodes))))
	}
	clients, controllers := s.at(kafkaClients(i, s.nodes)), s.at(kafkaControllers(i, s.nodes))
	listeners := []string{"PLAINTEXT://" + clients}
	if len(secure) > 0 {
		listeners = append(listeners, kafkaListener+"://"+s.at(kafkaSecure))
	}
	return strings.Join(append([]string{
		"process.roles=broker,controller",
		fmt.Sprintf("node.id=%d", i),
		"controller.quorum.voters=" + strings.Join(voters, ","),
		"controller.listener.names=CONTROLLER",
		"listeners=" + strings.Join(listeners, ",") + ",CONTROLLER://" + controllers,
		"advertised.listeners=" + strings.Join(listeners, ","),
		"log.dirs=" + data,
		"auto.create.topics.enable=false",
		fmt.Sprintf("default.replication.factor=%d", copies),
		fmt.Sprintf("min.insync.replicas=%d", inSync),
		fmt.Sprintf("offsets.topic.replication.factor=%d", copies),
		"offsets.topic.num.partitions=8",
		fmt.Sprintf("transaction.state.log.replication.factor=%d", copies),
		fmt.Sprintf("transaction.state.log.min.isr=%d", inSync),
		"transaction.state.log.num.partitions=8",
		"transaction.abort.timed.out.transaction.cleanup.interval.ms=1000",
		"group.coordinator.rebalance.protocols=classic,consumer",
		"group.initial.rebalance.delay.ms=0",
		"group.min.session.timeout.ms=500",
		"group.consumer.min.session.timeout.ms=1000",
		"group.consumer.min.heartbeat.interval.ms=300",
	}, secure...), "\n") + "\n"
}

const kafkaLog4j = `status=warn
appender.stdout.type=Console
appender.stdout.name=stdout
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=[%d] %p %m (%c)%n
rootLogger.level=info
rootLogger.appenderRef.stdout.ref=stdout
`
