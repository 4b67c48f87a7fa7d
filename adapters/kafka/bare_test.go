package kafka

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// bareConsumer is one without a server, for what is decided in memory.
func bareConsumer(t *testing.T, idMemory int64) *consumer {
	t.Helper()
	config := Config{Brokers: []string{"127.0.0.1:1"}, MaxIDMemory: idMemory, Logger: slog.New(slog.DiscardHandler)}
	if err := config.complete(); err != nil {
		t.Fatal(err)
	}
	c := &consumer{
		broker: &Broker{config: config}, name: "topic", logger: config.Logger, values: t.Context(),
		closing: make(chan struct{}), partitions: map[int32]*partition{},
	}
	c.ctx, c.cancel = context.WithCancel(t.Context())
	return c
}

// barePartition is one whose log of processed IDs was empty.
func (c *consumer) barePartition(number int32) *partition {
	p := c.newPartition(number, "member")
	p.restoredWith(newIDTable(time.Hour, c.broker.allocate), nil)
	c.partitions[number] = p
	return p
}

func (p *partition) bareDelivery(offset int64) *delivery {
	d := &delivery{partition: p, record: &kgo.Record{Offset: offset}, attempts: 1, msg: message.NewMessage("", nil)}
	d.ctx = adapters.NewDeliveryContext(p.ctx, &d.Delivery, d)
	p.progress.begin(offset, open)
	return d
}

func bareEntry(event string) *dedup.Entry {
	return &dedup.Entry{ID: dedup.NewID(dedup.Scope{Service: "test", Handler: "handler"}, event), EventID: event}
}

func bareItem(entry *dedup.Entry, deliveries ...*delivery) *item {
	it := &item{deliveries: deliveries, done: make(chan struct{})}
	if entry != nil {
		it.entries = []*dedup.Entry{entry}
	}
	return it
}
