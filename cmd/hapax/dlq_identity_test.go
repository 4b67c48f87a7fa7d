package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/handlers"
)

// An event that the broker gave up, and of which another copy was processed, is dropped
// when it is put back: its identity is still that of the config.
func TestRequeueKeepsTheIdentity(t *testing.T) {
	onEveryBroker(t, func(t *testing.T, _, file string) {
		settings, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = settings.WriteString("dedup: {id: {pointer: /id, ignore_uuid: true}}\nconsumer: {max_deliveries: 2, redelivery_delay: 1ms}\n")
		require.NoError(t, errors.Join(err, settings.Close()))
		topic := uniqueTopic()
		var mended atomic.Bool
		shipped := make(chan string, 10)
		serve(t, file, topic, func(_ context.Context, order map[string]any) error {
			if !mended.Load() {
				return handlers.RetryAfter(time.Millisecond, errors.New("out of stock"))
			}
			shipped <- order["id"].(string)
			return nil
		})
		cfg, err := config.Load(file, nil)
		require.NoError(t, err)
		operator, err := framework.NewOperator(t.Context(), cfg, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		defer operator.Close()
		send := func(uuid, id string) {
			msg := message.NewMessage(uuid, []byte(`{"id":"`+id+`"}`))
			msg.Metadata.Set(dedup.MetaKey, "one after the other")
			require.NoError(t, operator.Publish(topic, msg))
		}
		send("uuid-1", "one")
		require.Eventually(t, func() bool {
			text, err := run(t, "dlq", "show", topic, "one", "-f", file)
			return err == nil && text != ""
		}, 30*time.Second, 100*time.Millisecond)
		mended.Store(true)
		send("uuid-2", "one")
		require.Equal(t, "one", <-shipped)
		var text string
		// Its mark is durable a moment after the handler has returned.
		require.Eventually(t, func() bool {
			text, err = run(t, "dlq", "show", topic, "one", "-f", file)
			return err == nil && strings.Contains(text, "committed  yes: ")
		}, 30*time.Second, 100*time.Millisecond)
		text, err = run(t, "dlq", "requeue", topic, "one", "-f", file)
		require.NoError(t, err, text)
		require.Contains(t, text, "committed before: yes 1")
		send("uuid-3", "behind it")
		require.Equal(t, "behind it", <-shipped, "processed again")
	})
}
