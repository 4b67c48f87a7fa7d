package probe

import (
	"context"
	"fmt"
	"net"

	amqp "github.com/rabbitmq/amqp091-go"
)

// RabbitMQ logs in and opens a channel; the version comes from the handshake.
func RabbitMQ(ctx context.Context, url string) (string, error) {
	conn, err := amqp.DialConfig(url, amqp.Config{Dial: func(network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{Timeout: attempt}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		// The library lifts the deadline once the handshake is through.
		if deadline, ok := ctx.Deadline(); ok {
			err = c.SetDeadline(deadline)
		}
		return c, err
	}})
	if err != nil {
		return "", fmt.Errorf("ask rabbitmq: %w", err)
	}
	defer conn.Close()
	channel, err := conn.Channel()
	if err != nil {
		return "", fmt.Errorf("ask rabbitmq for a channel: %w", err)
	}
	version, _ := conn.Properties["version"].(string)
	return version, channel.Close()
}
