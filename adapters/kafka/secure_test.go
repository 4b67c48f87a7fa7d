package kafka_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/kafka"
	"github.com/hapax-go/hapax/internal/servers"
)

// secured is a config for the listener that takes TLS and SASL only.
func secured(t *testing.T) kafka.Config {
	t.Helper()
	server := servers.Require(t, servers.Kafka)
	servers.RequirePart(t, server, "listener with TLS and SASL (of a single native node)", server.Secure != "")
	authority, err := os.ReadFile(server.CAFile)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(authority))
	config := fast([]string{server.Secure})
	config.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return config
}

// jwt is an unsigned token, which Kafka takes in development.
func jwt(lifetime time.Duration) string {
	part := func(json string) string { return base64.RawURLEncoding.EncodeToString([]byte(json)) }
	now := time.Now()
	return part(`{"alg":"none"}`) + "." + part(fmt.Sprintf(`{"sub":"hapax","iat":%d,"exp":%d}`, now.Add(-time.Minute).Unix(), now.Add(lifetime).Unix())) + "."
}

func token(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}

// Each mechanism carries all that a service does: it makes a topic, publishes,
// consumes as a member of a group and acknowledges.
func TestSecuredConnections(t *testing.T) {
	client, err := kgo.NewClient(kgo.SeedBrokers(realKafka(t)...))
	require.NoError(t, err)
	defer client.Close()
	for _, mechanism := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		made, err := kadm.NewClient(client).AlterUserSCRAMs(t.Context(), nil,
			[]kadm.UpsertSCRAM{{User: "scram", Mechanism: mechanism, Iterations: 4096, Password: "salted"}})
		require.NoError(t, err)
		require.NoError(t, made.Error())
	}
	for name, sasl := range map[string]kafka.SASL{
		"plain":         {Mechanism: "plain", Username: "hapax", Password: "hapax"},
		"scram-sha-256": {Mechanism: "scram-sha-256", Username: "scram", Password: "salted"},
		"scram-sha-512": {Mechanism: "scram-sha-512", Username: "scram", Password: "salted"},
		"oauthbearer":   {Mechanism: "oauthbearer", Token: token(jwt(time.Hour))},
	} {
		t.Run(name, func(t *testing.T) {
			config := secured(t)
			config.SASL = sasl
			broker, err := kafka.Open(t.Context(), config)
			require.NoError(t, err)
			defer func() { require.NoError(t, broker.Close()) }()
			topic := newTopic(t)
			subscriber, err := broker.Subscriber(adapters.Subscription{Group: "secured"})
			require.NoError(t, err)
			defer func() { require.NoError(t, subscriber.Close()) }()
			messages, err := subscriber.Subscribe(t.Context(), topic)
			require.NoError(t, err)
			require.NoError(t, broker.Publisher().Publish(topic, message.NewMessage("one", []byte("payload"))))
			select {
			case got := <-messages:
				require.Equal(t, "one", got.UUID)
				got.Ack()
			case <-time.After(30 * time.Second):
				require.FailNow(t, "nothing came")
			}
		})
	}
}

// Whoever may not in learns why at the start, and no log learns the secret.
func TestRefusedCredentials(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*kafka.Config)
		want   string
	}{
		"wrong password": {func(c *kafka.Config) {
			c.SASL = kafka.SASL{Mechanism: "plain", Username: "hapax", Password: "hunter2"}
		}, "SASL_AUTHENTICATION_FAILED"},
		"unknown user": {func(c *kafka.Config) {
			c.SASL = kafka.SASL{Mechanism: "scram-sha-512", Username: "nobody", Password: "hunter2"}
		}, "SASL_AUTHENTICATION_FAILED"},
		"expired token": {func(c *kafka.Config) {
			c.SASL = kafka.SASL{Mechanism: "oauthbearer", Token: token(jwt(-time.Second))}
		}, "unexpected data in oauth response"},
		"no credentials": {func(*kafka.Config) {}, "is SASL missing?"},
		"unknown authority": {func(c *kafka.Config) {
			c.TLS = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
			c.SASL = kafka.SASL{Mechanism: "plain", Username: "hapax", Password: "hunter2"}
		}, "certificate signed by unknown authority"},
		"no TLS": {func(c *kafka.Config) {
			c.TLS = nil
			c.SASL = kafka.SASL{Mechanism: "plain", Username: "hapax", Password: "hunter2"}
		}, "a plaintext connection speaking to a tls endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			config := secured(t)
			test.change(&config)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			broker, err := kafka.Open(ctx, config)
			if err == nil {
				require.NoError(t, broker.Close())
			}
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "hunter2")
			require.NoError(t, ctx.Err(), "it gave up by itself")
		})
	}
}
