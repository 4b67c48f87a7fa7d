package framework

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/framework/config"
)

// openRabbitMQ maps the rabbitmq block to the adapter's config.
func openRabbitMQ(ctx context.Context, cfg *config.Config, logger *slog.Logger) (adapters.Broker, error) {
	encryption, err := rabbitMQTLS(cfg.RabbitMQ.TLS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Where("rabbitmq.tls"), err)
	}
	broker, err := rabbitmq.Open(ctx, rabbitmq.Config{
		URL:             cfg.RabbitMQ.URL.Reveal(),
		VHost:           cfg.RabbitMQ.VHost,
		TLS:             encryption,
		QueueType:       rabbitmq.QueueType(cfg.RabbitMQ.QueueType),
		Prefetch:        cfg.RabbitMQ.Prefetch,
		DeliveryLimit:   cfg.RabbitMQ.DeliveryLimit,
		ConsumerTimeout: time.Duration(cfg.RabbitMQ.ConsumerTimeout),
		HandlerTimeout:  time.Duration(cfg.Consumer.HandlerTimeout),
		DedupWindow:     time.Duration(cfg.Dedup.Window),
		// consumer.ordering promises order whoever of the members gets a message.
		// With "none" all of them share the queue.
		SingleActiveConsumer: true,
		Logger:               logger,
	})
	if err != nil {
		return nil, err // not broker: a nil *Broker would be an adapters.Broker that is not nil
	}
	return broker, nil
}

// rabbitMQTLS is nil when TLS is not enabled; an amqps:// URL turns it on as well.
func rabbitMQTLS(settings config.TLS) (*tls.Config, error) {
	if !settings.Enabled {
		return nil, nil
	}
	result := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: settings.ServerName,
		InsecureSkipVerify: settings.InsecureSkipVerify, //nolint:gosec // the user's explicit wish
	}
	if settings.CAFile != "" {
		authorities, err := os.ReadFile(settings.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		result.RootCAs = x509.NewCertPool()
		if !result.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, fmt.Errorf("read ca_file: %s has no certificate in PEM form", settings.CAFile)
		}
	}
	if settings.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(settings.CertFile, settings.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read cert_file and key_file: %w", err)
		}
		result.Certificates = []tls.Certificate{certificate}
	}
	return result, nil
}
