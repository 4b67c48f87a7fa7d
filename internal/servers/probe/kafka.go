package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Kafka asks for the cluster's metadata. With every, each host must be one of the
// brokers in it, which a broker is only once the controller lets it serve;
// without, the hosts may be other names of theirs. The version is derived from
// the requests a broker understands ("4.1"): no request names its release.
func Kafka(ctx context.Context, hosts []string, every bool) (string, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(hosts...), kgo.RequestRetries(0), kgo.DialTimeout(attempt))
	if err != nil {
		return "", fmt.Errorf("ask kafka: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	metadata, err := admin.BrokerMetadata(ctx)
	if err != nil {
		return "", fmt.Errorf("ask kafka for metadata: %w", err)
	}
	versions, err := admin.ApiVersions(ctx)
	if err != nil {
		return "", fmt.Errorf("ask kafka for its version: %w", err)
	}
	if !every {
		for _, broker := range versions.Sorted() {
			return guess(broker)
		}
		return "", errors.New("ask kafka for its version: no broker answered")
	}
	// By address, not by number: a killed broker is listed until its session
	// ends, and must not be counted in place of one that is still starting.
	var version string
	for _, host := range hosts {
		at := slices.IndexFunc(metadata.Brokers, func(b kadm.BrokerDetail) bool {
			return net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))) == host
		})
		if at < 0 {
			return "", fmt.Errorf("ask kafka for metadata: the broker at %s does not serve yet", host)
		}
		if version, err = guess(versions[metadata.Brokers[at].NodeID]); err != nil {
			return "", err
		}
	}
	return version, nil
}

func guess(b kadm.BrokerApiVersions) (string, error) {
	if b.Err != nil {
		return "", fmt.Errorf("ask kafka broker %d for its version: %w", b.NodeID, b.Err)
	}
	return strings.TrimPrefix(b.VersionGuess(), "v"), nil
}
