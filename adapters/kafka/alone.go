package kafka

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A broker refuses a batch for one of its records, and franz-go fails everything then that
// it has buffered for the partition, whoever published it. Who is just adding records has
// the earlier ones failed and the later ones sent, which overtake them. So several records
// of one call go through a producer that nobody else uses meanwhile, and what was refused in
// the company of others is tried there again before it counts as refused.

// loner is a producer for one caller at a time.
type loner struct {
	*kgo.Client
	known map[string]bool // topics that it knows the partitions of
}

type loners struct {
	mu     sync.Mutex
	idle   []*loner
	all    []*loner
	closed bool
}

// maxLoners bounds the connections. Callers beyond that use the shared client.
const maxLoners = 16

// lonerLinger is longer than it takes to buffer a part, so that nothing of it is sent
// before. ProduceSync ends it as soon as all is buffered, if the client knows the topic.
const lonerLinger = time.Second

// produce publishes records of one topic, outside of transactions. When it fails, what is
// published of a partition is what comes first, unless there were too many callers.
func (b *Broker) produce(ctx context.Context, topic string, records []*kgo.Record) error {
	if len(records) == 1 {
		err := b.produceWith(ctx, b.client, topic, records)
		if !final(err) {
			return err
		}
		records = []*kgo.Record{unsent(records[0])}
	}
	l, err := b.loner()
	if err != nil {
		return err
	}
	if l == nil {
		return b.produceWith(ctx, b.client, topic, records)
	}
	defer b.giveBack(l)
	if !l.known[topic] {
		if err := b.produceWith(ctx, l, topic, records[:1]); err != nil {
			return err
		}
		l.known[topic] = true
		records = records[1:]
	}
	for part := range parts(records, b.config.MaxPayload) {
		if err := b.produceWith(ctx, l, topic, part); err != nil {
			delete(l.known, topic)
			return err
		}
	}
	return nil
}

// ProduceSync is the client's, which would wait for the linger with a topic that is new to
// it.
func (l *loner) ProduceSync(ctx context.Context, records ...*kgo.Record) kgo.ProduceResults {
	if len(records) > 1 {
		return l.Client.ProduceSync(ctx, records...)
	}
	produced := make(chan kgo.ProduceResult, 1)
	l.Produce(ctx, records[0], func(r *kgo.Record, err error) { produced <- kgo.ProduceResult{Record: r, Err: err} })
	_ = l.Flush(ctx) // the result tells
	return kgo.ProduceResults{<-produced}
}

// final reports that a broker has refused a batch for what is in it.
func final(err error) bool {
	var answer *kerr.Error
	return errors.As(err, &answer) && !answer.Retriable
}

// parts cuts records so that each part fits into a batch: all of it that are in one
// partition are published, or none is.
func parts(records []*kgo.Record, limit int) iter.Seq[[]*kgo.Record] {
	return func(yield func([]*kgo.Record) bool) {
		for len(records) > 0 {
			n, size := 0, 0
			for n < len(records) && (n == 0 || size+recordSize(records[n]) <= limit) {
				size += recordSize(records[n])
				n++
			}
			if !yield(records[:n]) {
				return
			}
			records = records[n:]
		}
	}
}

// recordSize is the most bytes that a record takes in a batch.
func recordSize(r *kgo.Record) int {
	const integers = 40 // lengths, counts and deltas
	size := integers + len(r.Key) + len(r.Value)
	for _, header := range r.Headers {
		size += 10 + len(header.Key) + len(header.Value)
	}
	return size
}

// loner takes a producer out of use by others; nil if all are in use.
func (b *Broker) loner() (*loner, error) {
	b.loners.mu.Lock()
	defer b.loners.mu.Unlock()
	if b.loners.closed {
		return nil, ErrClosed
	}
	if last := len(b.loners.idle) - 1; last >= 0 {
		l := b.loners.idle[last]
		b.loners.idle = b.loners.idle[:last]
		return l, nil
	}
	if len(b.loners.all) == maxLoners {
		return nil, nil
	}
	client, err := b.config.newPlainProducer(b.letters, lonerLinger)
	if err != nil {
		return nil, fmt.Errorf("open producer: %w", err)
	}
	l := &loner{client, map[string]bool{}}
	b.loners.all = append(b.loners.all, l)
	return l, nil
}

func (b *Broker) giveBack(l *loner) {
	b.loners.mu.Lock()
	defer b.loners.mu.Unlock()
	b.loners.idle = append(b.loners.idle, l)
}

// closeLoners ends what they have under way.
func (b *Broker) closeLoners() {
	b.loners.mu.Lock()
	b.loners.closed = true
	all := b.loners.all
	b.loners.mu.Unlock()
	for _, l := range all {
		l.Close()
	}
}
