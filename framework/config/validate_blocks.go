package config

import (
	"cmp"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/hapax-go/hapax/dedup"
)

// broker checks that the block of the broker in use is complete, and that what
// the other blocks hold makes sense too: they may be in use tomorrow.
func (v checker) broker() {
	c := v.config
	needs := func(set bool, path, example string) {
		v.needed(set, path, []string{"broker"}, "broker is "+c.Broker, ": add "+example+" or set "+variable(path))
	}
	if c.Broker == "kafka" {
		needs(len(c.Kafka.Brokers) > 0, "kafka.brokers", `brokers: ["127.0.0.1:9092"]`)
	}
	if c.Broker == "rabbitmq" {
		needs(c.RabbitMQ.URL != "", "rabbitmq.url", `url: "amqp://guest:guest@127.0.0.1:5672/"`)
	}
	if c.Broker == "redis" {
		needs(len(c.Redis.Addresses) > 0, "redis.addresses", `addresses: ["127.0.0.1:6379"]`)
	}
	v.kafka()
	v.rabbitmq()
	v.redis()
	v.address("sqs.endpoint", c.SQS.Endpoint)
	v.address("tracing.endpoint", c.Tracing.Endpoint)
}

func (v checker) address(path, url string) {
	v.that(!matches(`^https?://[^/?#]*@`, url), path, nil,
		"has credentials, which nothing uses, and which a printed config would show: remove what stands before the @")
}

func (v checker) kafka() {
	kafka, sasl := v.config.Kafka, v.config.Kafka.SASL
	v.that(kafka.Transaction.Timeout < kafka.SessionTimeout, "kafka.transaction.timeout", []string{"kafka.session_timeout"},
		"found %s, expected less than kafka.session_timeout (%s): a lost consumer's transaction must end before its partitions move", kafka.Transaction.Timeout, kafka.SessionTimeout)
	v.that(kafka.Transaction.MaxTime < kafka.Transaction.Timeout, "kafka.transaction.max_time", []string{"kafka.transaction.timeout"},
		"found %s, expected less than kafka.transaction.timeout (%s)", kafka.Transaction.MaxTime, kafka.Transaction.Timeout)
	v.that(kafka.Partitions != 0, "kafka.partitions", nil, "found 0, expected -1 (the broker's default) or at least 1")
	v.that(kafka.Replication != 0, "kafka.replication", nil, "found 0, expected -1 (the broker's default) or at least 1")
	v.that(kafka.IDLog.Replication != 0, "kafka.id_log.replication", nil, "found 0, expected -1 (the broker's default) or at least 1")
	v.tls("kafka.tls", kafka.TLS, kafka.TLS.Enabled)

	switch sasl.Mechanism {
	case "":
		v.that(sasl == SASL{} || v.chosen("kafka.sasl.mechanism"), "kafka.sasl.mechanism", []string{"kafka.sasl.username", "kafka.sasl.password", "kafka.sasl.token", "kafka.sasl.token_file"},
			"not set, but kafka.sasl has credentials: add mechanism: scram-sha-512, or what the brokers use")
	case "oauthbearer":
		v.needed(sasl.Token != "" || sasl.TokenFile != "", "kafka.sasl.token", []string{"kafka.sasl.mechanism"}, "mechanism oauthbearer needs it, or kafka.sasl.token_file", "")
	default:
		v.needed(sasl.Username != "", "kafka.sasl.username", []string{"kafka.sasl.mechanism"}, "mechanism "+sasl.Mechanism+" needs it", "")
		v.needed(sasl.Password != "", "kafka.sasl.password", []string{"kafka.sasl.mechanism"}, "mechanism "+sasl.Mechanism+" needs it", "")
	}
}

func (v checker) rabbitmq() {
	url := v.config.RabbitMQ.URL.Reveal()
	v.that(url == "" || matches(`^amqps?://`, url), "rabbitmq.url", nil,
		"found another scheme, expected a URL such as amqp://user:password@host:5672/vhost")
	for _, reader := range v.config.RabbitMQ.Readers {
		v.that(matches(`^[^=]+=[^=.]+\.[^=]+$`, reader), "rabbitmq.readers", nil,
			"found %q, expected TOPIC=SERVICE.HANDLER, such as shipments=dispatch.shipments", reader)
	}
	v.tls("rabbitmq.tls", v.config.RabbitMQ.TLS, v.config.RabbitMQ.TLS.Enabled || matches(`^amqps://`, url))
}

func (v checker) redis() {
	redis := v.config.Redis
	sentinel := redis.Mode == "sentinel"
	v.that(!sentinel || redis.MasterName != "", "redis.master_name", []string{"redis.mode"}, "not set, but mode sentinel needs it")
	v.that(sentinel || redis.MasterName == "", "redis.master_name", nil, "found %q, but mode is %s: remove it or set mode: sentinel", redis.MasterName, redis.Mode)
	v.that(redis.Mode != "cluster" || redis.DB == 0, "redis.db", []string{"redis.mode"}, "found %d, but a cluster has only 0", redis.DB)
	v.that(redis.Mode != "single" || len(redis.Addresses) <= 1, "redis.addresses", []string{"redis.mode"},
		"found %d addresses, but mode single has one: set mode: sentinel or cluster", len(redis.Addresses))
	v.tls("redis.tls", redis.TLS, redis.TLS.Enabled)
}

func (v checker) tls(path string, tls TLS, enabled bool) {
	v.that(enabled || tls == TLS{} || v.chosen(join(path, "enabled")), join(path, "enabled"), []string{join(path, "ca_file"), join(path, "cert_file")},
		"not set, so nothing else in %s has an effect: set enabled: true or remove the rest", path)
	v.that((tls.CertFile == "") == (tls.KeyFile == ""), join(path, "cert_file"), []string{join(path, "key_file")},
		"cert_file and key_file need each other: set both or none")
}

// delivery checks consumer and retry, the service's or a handler's.
func (v checker) delivery(path string, consumer Consumer, retry Retry) {
	v.that(consumer.MaxDeliveries != 0, join(path, "consumer.max_deliveries"), nil, "found 0, expected -1 (no limit) or at least 1")
	v.that(retry.MaxInterval >= retry.InitialInterval, join(path, "retry.max_interval"), []string{join(path, "retry.initial_interval")},
		"found %s, expected at least initial_interval (%s)", retry.MaxInterval, retry.InitialInterval)
	if v.config.Broker == "rabbitmq" {
		limit := v.config.RabbitMQ.ConsumerTimeout
		v.that(consumer.HandlerTimeout < limit, join(path, "consumer.handler_timeout"), nil,
			"found %s, expected less than rabbitmq.consumer_timeout (%s): the server would close the channel first", consumer.HandlerTimeout, limit)
	}
}

func (v checker) topics() {
	owners := map[string]string{}
	for logical, topic := range v.config.Topics {
		if topic.Name == "" {
			owners[logical] = logical // it is called so at the broker too
		}
	}
	for logical, topic := range sorted(v.config.Topics) {
		path := "topics" + bracket(logical)
		v.that(topic.DeadLetter != logical, join(path, "dead_letter"), nil, "found the topic itself, expected another: its dead letters would be processed again")
		if topic.DeadLetter != logical && topic.DeadLetter != "" {
			if way := v.lettersBack(logical); len(way) > 0 && logical == v.firstChosen(way) {
				v.that(false, join(path, "dead_letter"), nil, "leads back to the topic (%s): dead letters would be processed again, without an end", strings.Join(append(way, logical), ", "))
			}
		}
		if topic.Name == "" {
			continue
		}
		owner, taken := owners[topic.Name]
		v.that(!taken, join(path, "name"), nil, "found %q, which is the name of topic %q already: two topics cannot share one", topic.Name, owner)
		owners[topic.Name] = logical
	}
}

// lettersBack is the way that the dead letters of a topic take back to it, from topic to
// topic; none if they do not come back.
func (v checker) lettersBack(start string) []string {
	longest := 0
	for logical := range v.config.Topics {
		longest = max(longest, len(logical))
	}
	way := []string{start}
	// Names by default grow, and lead nowhere when no topic of the block is as long.
	for next := v.letters(start); len(next) <= longest; next = v.letters(next) {
		if next == start {
			return way
		}
		if slices.Contains(way, next) {
			return nil // a circle that does not include start
		}
		way = append(way, next)
	}
	return nil
}

// letters is the topic of a topic's dead letters.
func (v checker) letters(topic string) string {
	return cmp.Or(v.config.Topics[topic].DeadLetter, dedup.DeadLetterTopic(topic))
}

// firstChosen is the first topic of a way, by name, whose dead letters the config sends on.
func (v checker) firstChosen(way []string) string {
	return slices.Min(slices.DeleteFunc(slices.Clone(way), func(topic string) bool { return v.config.Topics[topic].DeadLetter == "" }))
}

// databases checks the sql block and the ledger.
func (v checker) databases() {
	c := v.config
	if c.SQL.Enabled() {
		v.that(slices.Contains([]string{"postgres", "mysql", "sqlite"}, c.SQL.DSN.Driver()), "sql.dsn", nil,
			"found another form, expected a connection string such as postgres://user:password@host/db, user:password@tcp(host:3306)/db or file:orders.db")
	} else {
		// Without this, a block whose dsn was forgotten would silently be off.
		v.that(c.SQL == Default().SQL || v.chosen("sql.dsn"), "sql.dsn", nil, "not set, so nothing else in sql has an effect: add dsn: \"${DATABASE_URL}\" or remove the block")
	}

	const path = "dedup.ledger"
	given := c.Dedup.Ledger.DSN
	store, dsn := c.LedgerStore()
	v.that(store != "" || given == "", path+".dsn", nil, "cannot tell the store from it: set %s.store", path)
	v.that(store != "memory" || c.Dedup.AllowVolatile, path+".store", nil,
		"found \"memory\", which forgets when the process ends: use another store, or set dedup.allow_volatile: true")
	v.that(store != "memory" || given == "", path+".dsn", nil, "is set, but store memory has none: remove it")
	v.that(given == "" || store == "" || given.Driver() == store || store == "sqlite" && given.Driver() == "", path+".dsn", []string{path + ".store"},
		"does not look like a connection string of %s: check store and dsn", store)
	v.that(store != "redis" || dsn != "" || len(c.Redis.Addresses) > 0, path+".dsn", []string{path + ".store"},
		"not set, and redis.addresses is not either: set one of them for store redis")
	v.that(store != "postgres" && store != "mysql" || dsn != "", path+".dsn", []string{path + ".store"},
		"not set, and sql.dsn is not one of %s either: set one of them", store)
}

func sortedKeys(m reflect.Value) []string {
	var keys []string
	for _, key := range m.MapKeys() {
		keys = append(keys, key.String())
	}
	slices.Sort(keys)
	return keys
}

func sorted[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}
