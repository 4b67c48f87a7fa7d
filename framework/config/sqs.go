package config

// SQS says how to reach Amazon SQS. broker: sqs-fifo is broker: sqs with fifo set.
type SQS struct {
	// Region of the queues. "": from the AWS environment. Default "".
	Region string `yaml:"region" example:"eu-west-1"`
	// Endpoint replaces the service's address, for emulators and private
	// endpoints. An emulator too needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
	// in the environment, of any value. "": that of the region. Default "".
	Endpoint string `yaml:"endpoint" pattern:"^(https?://.+)?$" example:"http://127.0.0.1:9324"`
	// QueuePrefix goes before every queue's name. Default "".
	QueuePrefix string `yaml:"queue_prefix" pattern:"^[A-Za-z0-9_-]{0,40}$" example:"prod-"`
	// FIFO makes every topic's queue a FIFO queue: ".fifo" is appended to its
	// name, and the events' IDs are its deduplication IDs. false: those topics
	// only whose names end in ".fifo" (see topics). Default false.
	FIFO bool `yaml:"fifo"`
	// Create makes missing queues. Default false.
	Create bool `yaml:"create"`
	// VisibilityTimeout is how long a message that was handed out stays hidden
	// without a heartbeat. Default 30s.
	VisibilityTimeout Duration `yaml:"visibility_timeout" min:"1s" max:"12h"`
	// WaitTime is how long a receive waits for messages. 0: short polling,
	// which costs more requests. Default 20s.
	WaitTime Duration `yaml:"wait_time" max:"20s"`
	// Workers is how many receives run at once, per handler. Default 4.
	Workers int `yaml:"workers" min:"1" max:"256"`
	// Compress makes payloads smaller on the wire; consumers need Hapax to read
	// them. Default false.
	Compress bool `yaml:"compress"`
}
