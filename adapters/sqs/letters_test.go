package sqs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqs"
	"github.com/hapax-go/hapax/dedup"
)

// A letter is sent under a deduplication ID of its own. What another program's message
// had for one, and was its event's ID, stays that.
func TestALetterKeepsTheProducersID(t *testing.T) {
	t.Parallel()
	config := local(t)
	config.FIFO = true
	broker, topic := open(t, config), newTopic()
	join := func(topic string, limit int) <-chan *message.Message {
		subscriber, err := broker.Subscriber(adapters.Subscription{Group: "group", MaxDeliveries: limit})
		require.NoError(t, err)
		messages, err := subscriber.Subscribe(t.Context(), topic)
		require.NoError(t, err)
		return messages
	}
	messages, letters := join(topic, 1), join(dedup.DeadLetterTopic(topic), -1)
	name, err := config.QueueName(topic)
	require.NoError(t, err)
	client := raw(t, config)
	queue, err := client.GetQueueUrl(t.Context(), &awssqs.GetQueueUrlInput{QueueName: &name})
	require.NoError(t, err)
	_, err = client.SendMessage(t.Context(), &awssqs.SendMessageInput{
		QueueUrl: queue.QueueUrl, MessageBody: aws.String("x"), MessageGroupId: aws.String("key"), MessageDeduplicationId: aws.String("theirs"),
	})
	require.NoError(t, err)
	receive(t, messages).Nack()
	letter := receive(t, letters)
	defer letter.Ack()
	id, _, err := dedup.Identity{}.Find(letter)
	require.NoError(t, err)
	require.Equal(t, "theirs", id)
}

// To look for letters where none were ever sent makes no queue, and is no error.
func TestNoQueueNoLetters(t *testing.T) {
	t.Parallel()
	for _, create := range []bool{false, true} {
		config := local(t)
		config.Create = create
		broker, topic := open(t, config), newTopic()
		require.NoError(t, broker.Letters(t.Context(), topic, func(*message.Message) (bool, error) { return false, nil }))
		name, err := config.QueueName(topic)
		require.NoError(t, err)
		_, err = raw(t, config).GetQueueUrl(t.Context(), &awssqs.GetQueueUrlInput{QueueName: &name})
		require.ErrorContains(t, err, "QueueDoesNotExist")
	}
}

// lettersQueue has one letter, and does not make it visible again.
type lettersQueue struct {
	given bool
	fault string // the sender's: true or false
}

func (q *lettersQueue) Do(request *http.Request) (*http.Response, error) {
	_, operation, _ := strings.Cut(request.Header.Get("X-Amz-Target"), ".")
	body := `{}`
	switch operation {
	case "GetQueueUrl":
		body = `{"QueueUrl":"http://sqs/queue"}`
	case "ReceiveMessage":
		if !q.given {
			body = `{"Messages":[{"MessageId":"one","ReceiptHandle":"handle","Body":"x","MD5OfBody":"9dd4e461268c8034f5c8564e155c67a6"}]}`
		}
		q.given = true
	case "ChangeMessageVisibilityBatch":
		body = `{"Successful":[],"Failed":[{"Id":"0","Code":"RequestThrottled","Message":"slower","SenderFault":` + q.fault + `}]}`
	}
	return answered(request, body), nil
}

// A letter that stays hidden although it was only looked at: whoever looked hears of it. One
// that somebody has removed meanwhile is not missed.
func TestLettersThatStayHidden(t *testing.T) {
	t.Parallel()
	for fault, told := range map[string]string{
		"false": `give 1 letters back to queue "orders__dead": they stay hidden for up to 5m0s: RequestThrottled: slower`, "true": "",
	} {
		broker, err := sqs.Open(t.Context(), sqs.Config{
			Endpoint: "http://sqs", Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""), HTTPClient: &lettersQueue{fault: fault}, Logger: quiet,
		})
		require.NoError(t, err)
		seen := 0
		err = broker.Letters(t.Context(), "orders.dead", func(*message.Message) (bool, error) { seen++; return false, nil })
		require.Equal(t, 1, seen)
		if told == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, told)
		}
		require.NoError(t, broker.Close())
	}
}

// A command that was killed has left letters hidden: the next one tells, instead of finding
// nothing.
func TestHiddenLettersAreToldOf(t *testing.T) {
	t.Parallel()
	for _, fifo := range []bool{false, true} {
		var log bytes.Buffer
		config := local(t)
		config.FIFO, config.Logger = fifo, slog.New(slog.NewTextHandler(&log, nil))
		broker, topic := open(t, config), newTopic()
		require.NoError(t, broker.Publisher().Publish(topic, message.NewMessage("one", []byte("x")), message.NewMessage("two", []byte("x"))))
		look := func() (seen int) {
			require.NoError(t, broker.Letters(t.Context(), topic, func(*message.Message) (bool, error) { seen++; return false, nil }))
			return seen
		}
		require.Equal(t, 2, look())
		require.NotContains(t, log.String(), "hidden")
		name, err := config.QueueName(topic)
		require.NoError(t, err)
		client := raw(t, config)
		queue, err := client.GetQueueUrl(t.Context(), &awssqs.GetQueueUrlInput{QueueName: &name})
		require.NoError(t, err)
		output, err := client.ReceiveMessage(t.Context(), &awssqs.ReceiveMessageInput{QueueUrl: queue.QueueUrl, VisibilityTimeout: 60})
		require.NoError(t, err)
		require.Len(t, output.Messages, 1)
		require.Equal(t, 1, look())
		require.Contains(t, log.String(), "about 1 more letters are hidden")
	}
}

// letterBox is a queue of letters as SQS keeps it: what is received is hidden, until it is
// made visible again.
type letterBox struct {
	mu       sync.Mutex
	fifo     bool
	visible  []string
	hidden   []string
	attempts map[string][]string // what a FIFO queue gave for an attempt ID
	// received is told of receives, when the letters are hidden and nobody has them yet;
	// what it returns is why the answer is lost.
	received func(number int) error
	receives int
	silent   string // the operation that is not answered; "": all are
	// sent is when letters were sent, and ahead how much the service's clock is.
	sent  map[string]time.Time
	ahead time.Duration
}

func newLetterBox(fifo bool, letters int) *letterBox {
	box := &letterBox{fifo: fifo, attempts: map[string][]string{}}
	for i := range letters {
		box.visible = append(box.visible, fmt.Sprint("letter-", i))
	}
	return box
}

func (b *letterBox) Do(request *http.Request) (*http.Response, error) {
	_, operation, _ := strings.Cut(request.Header.Get("X-Amz-Target"), ".")
	var input struct {
		Attempt       string `json:"ReceiveRequestAttemptId"`
		ReceiptHandle string
		Entries       []struct{ ReceiptHandle string }
	}
	_ = json.NewDecoder(request.Body).Decode(&input)
	if operation == b.silent {
		<-request.Context().Done()
		return nil, request.Context().Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	body := `{}`
	switch operation {
	case "GetQueueUrl":
		body = `{"QueueUrl":"http://sqs/queue"}`
		if b.fifo {
			body = `{"QueueUrl":"http://sqs/queue.fifo"}`
		}
	case "GetQueueAttributes":
		body = fmt.Sprintf(`{"Attributes":{"ApproximateNumberOfMessages":"%d","ApproximateNumberOfMessagesNotVisible":"%d","ApproximateNumberOfMessagesDelayed":"0"}}`,
			len(b.visible), len(b.hidden))
	case "ReceiveMessage":
		given, again := b.attempts[input.Attempt]
		if !again {
			n := min(len(b.visible), 10)
			given = b.visible[:n:n]
			b.visible = b.visible[n:]
			b.hidden = append(b.hidden, given...)
			if input.Attempt != "" {
				b.attempts[input.Attempt] = given
			}
		}
		b.receives++
		if b.received != nil {
			if err := b.received(b.receives); err != nil {
				return nil, err
			}
		}
		var messages []string
		for _, id := range given {
			messages = append(messages, fmt.Sprintf(`{"MessageId":"%s","ReceiptHandle":"%s","Body":"x","MD5OfBody":"9dd4e461268c8034f5c8564e155c67a6","Attributes":{"SentTimestamp":"%d"}}`,
				id, id, b.sent[id].UnixMilli()))
		}
		body = `{"Messages":[` + strings.Join(messages, ",") + `]}`
	case "ChangeMessageVisibilityBatch":
		for _, entry := range input.Entries {
			b.unhide(entry.ReceiptHandle)
			b.visible = append(b.visible, entry.ReceiptHandle)
		}
	case "DeleteMessage":
		b.unhide(input.ReceiptHandle)
	}
	if err := request.Context().Err(); err != nil {
		return nil, err
	}
	answer := answered(request, body)
	answer.Header.Set("Date", time.Now().Add(b.ahead).UTC().Format(http.TimeFormat))
	return answer, nil
}

func (b *letterBox) unhide(letter string) {
	b.hidden = slices.DeleteFunc(b.hidden, func(s string) bool { return s == letter })
}

func openBox(t *testing.T, box *letterBox, logger *slog.Logger) *sqs.Broker {
	t.Helper()
	broker, err := sqs.Open(t.Context(), sqs.Config{
		Endpoint: "http://sqs", Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""), HTTPClient: box, FIFO: box.fifo, Logger: logger,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	return broker
}

// Whoever has seen enough in the middle of what was received, or could not go on, leaves
// nothing hidden: not even what it was not shown.
func TestLettersThatWereNotShownStayVisible(t *testing.T) {
	t.Parallel()
	box, seen := newLetterBox(false, 25), 0
	enough := errors.New("enough")
	err := openBox(t, box, quiet).Letters(t.Context(), "orders.dead", func(*message.Message) (bool, error) {
		if seen++; seen == 13 {
			return false, enough
		}
		return seen <= 11, nil
	})
	require.ErrorIs(t, err, enough)
	require.Empty(t, box.hidden)
	require.Len(t, box.visible, 25-11)
}

// Letters that come while others are looked at are of another time, but end nothing: a queue
// has its letters in any order. And it is the clock of the service that dates them.
func TestLettersThatComeMeanwhile(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{0, time.Hour} {
		box, seen := newLetterBox(false, 25), []string{}
		box.sent, box.ahead = map[string]time.Time{}, ahead
		for i, letter := range box.visible {
			box.sent[letter] = time.Now().Add(ahead - time.Second)
			if i < 10 {
				box.sent[letter] = time.Now().Add(ahead + time.Minute)
			}
		}
		before := slices.Clone(box.visible)
		require.NoError(t, openBox(t, box, quiet).Letters(t.Context(), "orders.dead", func(letter *message.Message) (bool, error) {
			seen = append(seen, letter.UUID)
			return false, nil
		}))
		require.Len(t, seen, 15, "the service's clock is ahead by %s", ahead)
		require.Empty(t, box.hidden)
		require.ElementsMatch(t, before, box.visible)
	}
}

// Letters that come faster than they can be looked at keep nobody for ever.
func TestLettersThatNeverEnd(t *testing.T) {
	t.Parallel()
	box, seen := newLetterBox(false, 1), 0
	box.sent = map[string]time.Time{}
	box.received = func(number int) error {
		letter := fmt.Sprint("later-", number)
		box.sent[letter] = time.Now().Add(time.Minute)
		box.visible = append(box.visible, letter)
		return nil
	}
	require.NoError(t, openBox(t, box, quiet).Letters(t.Context(), "orders.dead", func(*message.Message) (bool, error) { seen++; return false, nil }))
	require.Equal(t, 1, seen)
	require.Empty(t, box.hidden)
}

// A receive that is interrupted on the way has hidden letters already.
func TestInterruptedLettersStayVisible(t *testing.T) {
	t.Parallel()
	for _, fifo := range []bool{false, true} {
		box, seen := newLetterBox(fifo, 25), 0
		ctx, interrupt := context.WithCancel(t.Context())
		box.received = func(number int) error {
			if number == 2 {
				interrupt()
			}
			return nil
		}
		err := openBox(t, box, quiet).Letters(ctx, "orders.dead", func(*message.Message) (bool, error) { seen++; return false, nil })
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 10, seen)
		require.Empty(t, box.hidden)
		require.Equal(t, 2, box.receives)
	}
}

// An answer that is lost has letters in it, hidden by now. A FIFO queue gives them again;
// of a standard queue it is told that it does not.
func TestLettersOfALostAnswer(t *testing.T) {
	t.Parallel()
	for _, fifo := range []bool{false, true} {
		var log bytes.Buffer
		box, seen := newLetterBox(fifo, 25), 0
		box.received = func(number int) error {
			if number == 2 {
				return io.ErrUnexpectedEOF
			}
			return nil
		}
		broker := openBox(t, box, slog.New(slog.NewTextHandler(&log, nil)))
		require.NoError(t, broker.Letters(t.Context(), "orders.dead", func(*message.Message) (bool, error) { seen++; return true, nil }))
		if fifo {
			require.Equal(t, 25, seen)
			require.NotContains(t, log.String(), "lost")
		} else {
			require.Equal(t, 15, seen)
			require.Contains(t, log.String(), "an answer was lost on its way: up to 10 letters may stay hidden for up to 5m0s")
		}
	}
}

// A service that takes requests and does not answer holds up nobody for ever, however little
// time whoever asks has.
func TestLettersOfASilentService(t *testing.T) {
	for _, silent := range []string{"ReceiveMessage", "DeleteMessage", "ChangeMessageVisibilityBatch", "GetQueueAttributes"} {
		synctest.Test(t, func(t *testing.T) {
			box := newLetterBox(false, 1)
			broker := openBox(t, box, quiet)
			box.silent = silent
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = broker.Letters(t.Context(), "orders.dead", func(*message.Message) (bool, error) { return silent == "DeleteMessage", nil })
			}()
			select {
			case <-ended:
			case <-time.After(time.Hour):
				t.Error(silent, "is waited for")
			}
		})
	}
}
