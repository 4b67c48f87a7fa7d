package config

// RabbitMQ says how to reach RabbitMQ.
type RabbitMQ struct {
	// URL of the server, amqp:// or amqps://. Required when broker is rabbitmq.
	// Default: none.
	URL DSN `yaml:"url" example:"amqp://guest:guest@127.0.0.1:5672/"`
	// VHost replaces the virtual host of the URL. "": that of the URL.
	// Default "".
	VHost string `yaml:"vhost" example:"orders"`
	// QueueType of new queues. quorum queues are replicated and count
	// deliveries; classic ones are faster and do neither. Default quorum.
	QueueType string `yaml:"queue_type" enum:"quorum|classic"`
	// Prefetch is how many unacknowledged messages the server sends ahead, per
	// consumer. 0: as many as consumer.window. Default 0.
	Prefetch int `yaml:"prefetch" min:"0" max:"65535"`
	// DeliveryLimit is the limit a quorum queue itself puts on deliveries; a
	// message beyond it goes to the dead-letter queue. 0: as
	// consumer.max_deliveries. Default 0.
	DeliveryLimit int `yaml:"delivery_limit" min:"0"`
	// ConsumerTimeout is the server's own consumer_timeout: it closes the
	// channel of a consumer that holds a message longer. Tell it here when the
	// server's differs. Default 30m.
	ConsumerTimeout Duration `yaml:"consumer_timeout" min:"1s"`
	// TLS encrypts the connection; an amqps:// URL turns it on as well.
	TLS TLS `yaml:"tls"`
}
