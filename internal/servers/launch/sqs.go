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

// sqsConfig keeps queues and messages on disk, as Amazon does, so that a restart
// loses none, and holds to Amazon's limits.
func sqsConfig(s *site) string {
	data := filepath.Join(s.dir, "data")
	return fmt.Sprintf(`include classpath("application.conf")
node-address { protocol = http, host = 127.0.0.1, port = %[1]d, context-path = "" }
rest-sqs { enabled = true, bind-hostname = "127.0.0.1", bind-port = %[1]d, sqs-limits = strict }
rest-stats { enabled = false }
queues-storage { enabled = true, path = %[2]q }
messages-storage { enabled = true, uri = %[3]q }
`, s.ports[sqsPort], filepath.Join(data, "queues.conf"), "jdbc:h2:"+filepath.Join(data, "messages"))
}
