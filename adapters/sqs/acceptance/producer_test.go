package acceptance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault"
)

// produce sends the workload in small batches. A batch that failed is sent again, as
// a producer that keeps an order must, before anything else is sent.
func (r *run) produce(ctx context.Context) error {
	sends := slices.Collect(r.workload.Sends())
	pause := time.Duration(0)
	if r.over > 0 {
		pause = r.over / time.Duration(len(sends)/batchSize+1)
	}
	next := time.Now()
	for batch := range slices.Chunk(sends, batchSize) {
		var messages []*message.Message
		for _, send := range batch {
			for copied := range r.spread {
				messages = append(messages, messageOf(send, copied))
			}
		}
		for {
			began := time.Now()
			err := r.producer.Publisher().Publish(r.in, messages...)
			r.slowest = max(r.slowest, time.Since(began))
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return err
			}
		}
		for _, send := range batch {
			r.sent.Record(send.Event, fault.SendOK)
		}
		next = next.Add(pause)
		<-time.After(time.Until(next))
	}
	return nil
}

const batchSize = 50

// messageOf makes a message. Copies beyond the first have keys of their own.
func messageOf(send fault.Send, copied int) *message.Message {
	payload, _ := json.Marshal(send.Event)
	key := send.Key
	if copied > 0 {
		key = fmt.Sprint(key, "-", copied)
	}
	msg := message.NewMessage(watermill.NewUUID(), payload)
	msg.Metadata = message.Metadata{
		dedup.MetaEventID: send.ID, dedup.MetaKey: key, metaCopy: fmt.Sprint(2*copied + send.Copy),
	}
	return msg
}

// later is what the producer's requests go through. FIFO queues drop copies for five
// minutes, and the server's clock cannot be set: what the producer sends twice gets
// another deduplication ID, so that the queue takes it as it does when the minutes are
// over. Copies of one copy, sent again by the SDK or the adapter, keep it.
type later struct{ http.RoundTripper }

func laterCopies(t *testing.T) later {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	return later{transport}
}

// Do implements aws.HTTPClient.
func (l later) Do(request *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(request.Header.Get("X-Amz-Target"), "SendMessageBatch") {
		return l.RoundTrip(request)
	}
	var input map[string]any
	if err := json.NewDecoder(request.Body).Decode(&input); err != nil {
		return nil, err
	}
	for _, entry := range input["Entries"].([]any) {
		entry := entry.(map[string]any)
		copied := entry["MessageAttributes"].(map[string]any)[metaCopy].(map[string]any)["StringValue"]
		if id, fifo := entry["MessageDeduplicationId"]; fifo && copied != "0" {
			entry["MessageDeduplicationId"] = fmt.Sprint(id, "-later-", copied)
		}
	}
	body, err := json.Marshal(input)
	if err != nil {
		return nil, err
	}
	request = request.Clone(request.Context())
	request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return l.RoundTrip(request)
}
