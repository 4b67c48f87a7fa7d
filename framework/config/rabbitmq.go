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
	// SingleActiveConsumer gives the queue of an ordered handler to one process at
	// a time, so that keys stay in order whoever has it; the others stand by. false:
	// all work, and keys are in order within a process only. partitions is the way
	// to have both. Default true.
	SingleActiveConsumer bool `yaml:"single_active_consumer"`
	// Partitions divides the messages of an ordered handler among so many queues,
	// by key; processes share the queues. It cannot be changed while the queues
	// exist. 0: one queue. Default 0.
	Partitions int `yaml:"partitions" min:"0" max:"256"`
	// PartitionBy says who deals messages to partitions. slots: producers do, with
	// the routing key; consistent-hash: the server, by the routing key, with its
	// plugin rabbitmq_consistent_hash_exchange. Default slots.
	PartitionBy string `yaml:"partition_by" enum:"slots|consistent-hash"`
	// Priority of this service's consumers: the server prefers higher ones while
	// they take messages, unless one is the single active consumer. Default 0.
	Priority int `yaml:"priority" min:"-255" max:"255"`
	// ParkAfter is how far away the next attempt of a message without a key must be
	// for it to wait in a queue of the server instead of in the process. Default 10s.
	ParkAfter Duration `yaml:"park_after" min:"1s"`
	// Prefetch is how many unacknowledged messages the server sends ahead, per
	// consumer. 0: as many as consumer.window. Default 0.
	Prefetch int `yaml:"prefetch" min:"0" max:"65535"`
	// DeliveryLimit is the limit a quorum queue itself puts on deliveries; a
	// message beyond it goes to the dead-letter queue. 0: as
	// consumer.max_deliveries. Default 0.
	DeliveryLimit int `yaml:"delivery_limit" min:"0"`
	// Readers are groups that may start after the first message for them was
	// published, as TOPIC=SERVICE.HANDLER: whoever publishes to the topic makes their
	// queues first. RabbitMQ keeps messages in the queues of readers only, and a topic
	// that has none refuses them. A reader that never starts fills its queue.
	// Default: none.
	Readers []string `yaml:"readers" example:"shipments=dispatch.shipments"`
	// ConsumerTimeout is the server's own consumer_timeout: it closes the
	// channel of a consumer that holds a message longer. Tell it here when the
	// server's differs. Default 30m.
	ConsumerTimeout Duration `yaml:"consumer_timeout" min:"1s"`
	// TLS encrypts the connection; an amqps:// URL turns it on as well.
	TLS TLS `yaml:"tls"`
}
