package sqs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqs"
	"github.com/hapax-go/hapax/dedup"
)

// middleware stands between the SDK and the server. What it is asked to let fail
// does not reach the server.
type middleware struct {
	http.RoundTripper
	// fail says whether an entry of a batch fails, and how; nil: none does.
	fail func(operation string, entry map[string]any) *failure
	// lose says whether an entry is lost: it is answered as done, and is not.
	lose func(operation string, entry map[string]any) bool
	// change changes an entry that passes; nil: nothing.
	change func(operation string, entry map[string]any)
	// answer answers a request in the server's place; nil, or a nil answer: it does
	// not.
	answer func(operation string) *http.Response
	// cut says whether the answer to a request is lost.
	cut func(operation string) bool
}

type failure struct {
	ID          string `json:"Id"`
	Code        string
	Message     string
	SenderFault bool
}

func newMiddleware(t *testing.T) *middleware {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	return &middleware{RoundTripper: transport}
}

// Do implements aws.HTTPClient.
func (m *middleware) Do(request *http.Request) (*http.Response, error) {
	_, operation, _ := strings.Cut(request.Header.Get("X-Amz-Target"), ".")
	if m.answer != nil {
		if response := m.answer(operation); response != nil {
			response.Request = request
			return response, nil
		}
	}
	if !strings.HasSuffix(operation, "Batch") {
		response, err := m.RoundTrip(request)
		if err == nil && m.cut != nil && m.cut(operation) {
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			return nil, io.ErrUnexpectedEOF
		}
		return response, err
	}
	var input map[string]any
	if err := json.NewDecoder(request.Body).Decode(&input); err != nil {
		return nil, err
	}
	var passed []any
	failed, lost := []*failure{}, []any{}
	for _, entry := range input["Entries"].([]any) {
		entry := entry.(map[string]any)
		if m.fail != nil {
			if f := m.fail(operation, entry); f != nil {
				f.ID = entry["Id"].(string)
				failed = append(failed, f)
				continue
			}
		}
		if m.lose != nil && m.lose(operation, entry) {
			lost = append(lost, map[string]any{"Id": entry["Id"]})
			continue
		}
		if m.change != nil {
			m.change(operation, entry)
		}
		passed = append(passed, entry)
	}
	output := map[string]any{"Successful": []any{}}
	response := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, Request: request}
	if len(passed) > 0 {
		input["Entries"] = passed
		body, err := json.Marshal(input)
		if err != nil {
			return nil, err
		}
		request = request.Clone(request.Context())
		request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		if response, err = m.RoundTrip(request); err != nil {
			return nil, err
		}
		if response.StatusCode != http.StatusOK {
			return response, nil
		}
		defer response.Body.Close()
		if err := json.NewDecoder(response.Body).Decode(&output); err != nil {
			return nil, err
		}
	}
	output["Failed"], output["Successful"] = failed, append(output["Successful"].([]any), lost...)
	body, err := json.Marshal(output)
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return response, err
}

func events(n int) []*message.Message {
	messages := make([]*message.Message, n)
	for i := range messages {
		messages[i] = event(fmt.Sprint("event-", i), fmt.Sprint("key-", i%3))
	}
	return messages
}

func event(id, key string) *message.Message {
	msg := message.NewMessage(id, message.Payload(id))
	msg.Metadata = message.Metadata{dedup.MetaEventID: id, dedup.MetaKey: key}
	return msg
}

// collect acks messages until the queue holds none any more, neither visible nor
// hidden, so that no more can come. It wants n, and returns their event IDs by key, in
// order of arrival.
func collect(t *testing.T, broker *sqs.Broker, topic string, n int) map[string][]string {
	t.Helper()
	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group"})
	require.NoError(t, err)
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	byKey, total := map[string][]string{}, 0
	for patience, poll := time.After(time.Minute), time.Tick(50*time.Millisecond); ; {
		select {
		case msg := <-messages:
			key := msg.Metadata.Get(dedup.MetaKey)
			byKey[key] = append(byKey[key], msg.Metadata.Get(dedup.MetaEventID))
			msg.Ack()
			total++
			continue
		case <-poll:
		case <-patience:
			require.FailNow(t, "messages do not end", "%d of %d came", total, n)
		}
		backlog, err := broker.Backlog(t.Context(), topic)
		require.NoError(t, err)
		if backlog != (sqs.Backlog{}) {
			continue
		}
		require.Equal(t, n, total, "messages")
		require.NoError(t, subscriber.Close())
		return byKey
	}
}

// Entries of batches fail singly: those that may pass later are sent again, and a
// FIFO queue gets those of a key in their order all the same.
func TestPartialFailures(t *testing.T) {
	t.Parallel()
	for _, fifo := range []bool{false, true} {
		t.Run(fmt.Sprint("fifo ", fifo), func(t *testing.T) {
			t.Parallel()
			config, faults := local(t), newMiddleware(t)
			config.FIFO, config.HTTPClient = fifo, faults
			var mu sync.Mutex
			seen, failures := map[string]int{}, map[string]int{}
			faults.fail = func(operation string, entry map[string]any) *failure {
				mu.Lock()
				defer mu.Unlock()
				what := fmt.Sprint(operation, entry["MessageBody"], entry["ReceiptHandle"])
				if seen[what]++; seen[what] > 2 || crc32.ChecksumIEEE([]byte(what))%2 == 0 {
					return nil
				}
				failures[operation]++
				return &failure{Code: "RequestThrottled", Message: "later", SenderFault: seen[what] == 1}
			}
			broker, topic := open(t, config), newTopic()
			sent := events(40)
			require.NoError(t, broker.Publisher().Publish(topic, sent...))
			byKey := collect(t, broker, topic, len(sent))
			if fifo {
				want := map[string][]string{}
				for _, msg := range sent {
					key := msg.Metadata.Get(dedup.MetaKey)
					want[key] = append(want[key], msg.UUID)
				}
				require.Equal(t, want, byKey)
			}
			mu.Lock()
			defer mu.Unlock()
			require.NotZero(t, failures["SendMessageBatch"])
			require.NotZero(t, failures["DeleteMessageBatch"])
		})
	}
}

// One key is throttled for long: its sends and deletes are tried again, and those of
// others do not wait for that.
func TestThrottledEntryHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	config, faults := local(t), newMiddleware(t)
	config.FIFO, config.HTTPClient, config.Retry = true, faults, 10*time.Minute
	var throttled atomic.Bool
	var hot, refused atomic.Value // what fails of an entry; how often it has
	throttle := func(what string) { hot.Store(what); refused.Store(0); throttled.Store(true) }
	faults.fail = func(operation string, entry map[string]any) *failure {
		if operation == "DeleteMessageBatch" && hot.Load() == "the first delete" {
			hot.Store(fmt.Sprint(entry["ReceiptHandle"]))
		}
		if !throttled.Load() || hot.Load() != fmt.Sprint(entry["MessageBody"]) && hot.Load() != fmt.Sprint(entry["ReceiptHandle"]) {
			return nil
		}
		refused.Store(refused.Load().(int) + 1) // one at a time
		return &failure{Code: "RequestThrottled", Message: "later", SenderFault: true}
	}
	isTriedAgain := func() bool { return refused.Load().(int) > 1 }
	broker, topic := open(t, config), newTopic()
	t.Cleanup(func() { throttled.Store(false) }) // or closing waits for it
	ends := func(done <-chan error) {
		t.Helper()
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(30 * time.Second):
			require.FailNow(t, "it waits for another's entry")
		}
	}
	publish := func(id, key string) <-chan error {
		done := make(chan error, 1)
		go func() { done <- broker.Publisher().Publish(topic, event(id, key)) }()
		return done
	}

	throttle("hot")
	first := publish("hot", "a")
	require.Eventually(t, isTriedAgain, 30*time.Second, time.Millisecond)
	ends(publish("cold", "b"))
	ends(publish("colder", "b"))
	throttled.Store(false)
	ends(first)

	subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group"})
	require.NoError(t, err)
	messages, err := subscriber.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	held := map[string]*message.Message{}
	for range 2 {
		msg := receive(t, messages)
		held[msg.UUID] = msg
	}
	throttle("the first delete")
	held["hot"].Ack()
	require.Eventually(t, isTriedAgain, 30*time.Second, time.Millisecond)
	held["cold"].Ack()
	receive(t, messages).Ack() // whose turn comes when the one before it is deleted
	throttled.Store(false)
	require.NoError(t, subscriber.Close())
}

// What SQS will never take is a bad output; the rest of the batch is sent.
func TestRefusedEntry(t *testing.T) {
	t.Parallel()
	config, faults := local(t), newMiddleware(t)
	config.HTTPClient = faults
	faults.fail = func(_ string, entry map[string]any) *failure {
		if entry["MessageBody"] == "event-3" {
			return &failure{Code: "InvalidMessageContents", Message: "no such characters", SenderFault: true}
		}
		return nil
	}
	broker, topic := open(t, config), newTopic()
	err := broker.Publisher().Publish(topic, events(10)...)
	require.ErrorIs(t, err, dedup.ErrBadOutput)
	require.ErrorContains(t, err, "1 of 10 messages were not sent")
	require.ErrorContains(t, err, "no such characters")
	collect(t, broker, topic, 9)
}

// What is not sent keeps back what is behind it of its key: the caller sends it again, and
// it would come after them.
func TestUnsentKeepsItsKeyBack(t *testing.T) {
	t.Parallel()
	config, faults := local(t), newMiddleware(t)
	config.FIFO, config.HTTPClient = true, faults
	var refused atomic.Bool
	faults.fail = func(_ string, entry map[string]any) *failure {
		if entry["MessageBody"] == "event-3" && refused.CompareAndSwap(false, true) {
			return &failure{Code: "InvalidMessageContents", Message: "not yet", SenderFault: true}
		}
		return nil
	}
	broker, topic := open(t, config), newTopic()
	sent := events(12)
	err := broker.Publisher().Publish(topic, sent...)
	require.ErrorContains(t, err, "not yet")
	require.ErrorContains(t, err, "3 of 12 messages were not sent")
	require.NoError(t, broker.Publisher().Publish(topic, sent...))
	byKey := collect(t, broker, topic, len(sent))
	require.Equal(t, []string{"event-0", "event-3", "event-6", "event-9"}, byKey["key-0"])
}

// A payload over the service's limit crosses it compressed, text and bytes alike; a
// small one goes as it is.
func TestCompressedPayloadsCrossTheServer(t *testing.T) {
	t.Parallel()
	for _, fifo := range []bool{false, true} {
		config := local(t)
		config.FIFO, config.Compress = fifo, true
		broker, topic := open(t, config), newTopic()
		payloads := map[string][]byte{
			"small": []byte("text"),
			"text":  bytes.Repeat([]byte("text "), 200_000),
			"bytes": bytes.Repeat([]byte{0, 0xff, 0xfe, 1}, 250_000),
		}
		for id, payload := range payloads {
			msg := message.NewMessage(id, payload)
			msg.Metadata.Set(dedup.MetaEventID, id)
			require.NoError(t, broker.Publisher().Publish(topic, msg))
		}
		subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group"})
		require.NoError(t, err)
		messages, err := subscriber.Subscribe(t.Context(), topic)
		require.NoError(t, err)
		for range payloads {
			msg := <-messages
			require.Equal(t, string(payloads[msg.UUID]), string(msg.Payload), msg.UUID)
			msg.Ack()
		}
	}
}

// raw is the SDK by itself.
func raw(t testing.TB, config sqs.Config) *awssqs.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	return awssqs.New(awssqs.Options{
		Region: "us-east-1", Credentials: config.Credentials, BaseEndpoint: aws.String(config.Endpoint),
		HTTPClient: &http.Client{Transport: transport},
	})
}
