package launch

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/internal/servers/process"
)

const (
	sqsPort    = "HAPAX_PORT_SQS"
	sqsVersion = "1.6.14"
	sqsMain    = "org.elasticmq.server.Main"
)

var sqsArtifact = artifact{"org.elasticmq", "elasticmq-server_2.13", sqsVersion}

// sqs is ElasticMQ, which speaks Amazon SQS.
var sqs = recipe{
	ports: func(int) []port { return []port{{sqsPort, 29324}} },
	address: func(s *site) (servers.Address, error) {
		return servers.ParseAddress(servers.SQS, "http://"+s.at(sqsPort))
	},
	services: func(int) []string { return []string{"sqs"} },
	version:  "elasticmq " + sqsVersion,
	native: func(ctx context.Context, s *site) ([]process.Spec, string, error) {
		java, err := s.host.java(ctx, s)
		if err != nil {
			return nil, "", err
		}
		jars, err := s.host.jars(ctx, s, sqsArtifact)
		if err != nil {
			return nil, "", err
		}
		config, err := s.write("elasticmq.conf", sqsConfig(s))
		if err != nil {
			return nil, "", err
		}
		return []process.Spec{s.process("node1", java, "-Xmx512m", "-Xms128m", "-Djava.net.preferIPv4Stack=true",
			"-Dconfig.file="+config, "-cp", filepath.Join(jars, "*"), sqsMain)}, "Maven " + sqsArtifact.String(), nil
	},
}

// sqsConfig holds to Amazon's limits. Everything is in memory: ElasticMQ's storage is
// not for tests that send and receive at the same time. A message that is received
// while it is being stored can end the actor that stores, which then forgets its
// tables and stores nothing more; and an answer that waits for the database can be
// handed to a poll that has ended meanwhile, after which a repeated receive attempt
// can empty its queue ("OneForOneStrategy - Invalid" in the log).
func sqsConfig(s *site) string {
	return fmt.Sprintf(`include classpath("application.conf")
node-address { protocol = http, host = 127.0.0.1, port = %[1]d, context-path = "" }
rest-sqs { enabled = true, bind-hostname = "127.0.0.1", bind-port = %[1]d, sqs-limits = strict }
rest-stats { enabled = false }
queues-storage { enabled = false }
messages-storage { enabled = false }
`, s.ports[sqsPort])
}
