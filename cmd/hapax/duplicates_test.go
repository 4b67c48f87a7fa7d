package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/framework"
)

// Copies that took no effect are reported by the running service, on every broker,
// and the broker's own figures are among its metrics.
func TestDuplicates(t *testing.T) {
	onEveryBroker(t, func(t *testing.T, broker, file string) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		address := listener.Addr().String()
		require.NoError(t, listener.Close())
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		file = writeConfig(t, strings.Replace(string(text), "admin: {enabled: false}", fmt.Sprintf("admin: {address: %q}", address), 1))

		topic := uniqueTopic()
		shipped := make(chan string, 10)
		serve(t, file, topic, func(_ context.Context, order map[string]any) error {
			shipped <- order["id"].(string)
			return nil
		})
		none, err := run(t, "duplicates", "-f", file)
		require.NoError(t, err)
		require.Contains(t, none, "no duplicates in the last 24 hours")
		_, err = run(t, "publish", topic, "-f", file, "--id", "one", "--key", "k", "--data", `{"id":"one"}`, "--duplicate", "3", "--meta", "ce_type=order.placed")
		require.NoError(t, err)
		require.Equal(t, "one", <-shipped)
		copies := 2
		if broker == "sqs-fifo" {
			copies = 0 // SQS itself drops them within five minutes
		}
		var report framework.DuplicateReport
		require.Eventually(t, func() bool {
			text, err := run(t, "duplicates", "-f", file, "--json")
			require.NoError(t, err)
			report = framework.DuplicateReport{}
			require.NoError(t, json.Unmarshal([]byte(text), &report))
			return len(report.Recent) == copies
		}, 30*time.Second, 50*time.Millisecond)
		if copies > 0 {
			require.Len(t, report.Hours, 1)
			require.Equal(t, 2, report.Hours[0].Count)
			require.Equal(t, "order.placed", report.Hours[0].Type)
			require.Equal(t, framework.ProducerRetry, report.Hours[0].Cause)
			text, err := run(t, "duplicates", "--url", "http://"+address+"/", "--url", address, "--limit", "1")
			require.NoError(t, err)
			require.Contains(t, text, "fulfilment: 4 duplicates in the last 24 hours", "two instances add up")
		}
		response, err := http.Get("http://" + address + "/metrics")
		require.NoError(t, err)
		defer response.Body.Close()
		metrics, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		http.DefaultClient.CloseIdleConnections()
		require.Contains(t, string(metrics), `hapax_backlog_messages{group="fulfilment.`+topic+`",topic="`+topic+`"}`)
		switch broker {
		case "kafka":
			require.Contains(t, string(metrics), "\nhapax_kafka_transactions_total ")
		case "redis":
			require.Contains(t, string(metrics), "\nhapax_reported_lost_total 0\n")
		case "rabbitmq":
			require.Contains(t, string(metrics), "\nhapax_rabbitmq_blocked 0\n")
		}
	})
}

func TestDuplicatesOfNobody(t *testing.T) {
	_, err := run(t, "duplicates", "--url", "http://127.0.0.1:1")
	require.ErrorContains(t, err, "is the service running")
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	_, err = run(t, "duplicates", "--url", other.URL)
	require.ErrorContains(t, err, "404")
	_, err = run(t, "duplicates", "-f", writeConfig(t, "service: a\nadmin: {enabled: false}\n"))
	require.ErrorContains(t, err, "admin.enabled is false")
}

// Nothing is found in no time, whatever there was: that is no answer.
func TestDuplicatesOfNoTime(t *testing.T) {
	for flag, says := range map[string]string{
		"--hours=0": "--hours is 0, expected at least 1", "--hours=-1": "--hours is -1, expected at least 1", "--limit=-1": "--limit is -1, expected at least 0",
	} {
		_, err := run(t, "duplicates", "--url", "http://127.0.0.1:1", flag)
		require.EqualError(t, err, says)
	}
}
