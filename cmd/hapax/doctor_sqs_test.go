package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/servers"
)

func TestDoctorOnSQS(t *testing.T) {
	address := servers.Require(t, servers.SQS)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_REGION", "eu-west-1")
	client := awssqs.New(awssqs.Options{BaseEndpoint: &address.URL, Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")})
	create := func(t *testing.T, name string, attributes map[string]string) string {
		made, err := client.CreateQueue(t.Context(), &awssqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
		require.NoError(t, err)
		return aws.ToString(made.QueueUrl)
	}
	yaml := func(t *testing.T, endpoint string) string {
		return fmt.Sprintf("service: fulfilment\nbroker: sqs\nsqs: {endpoint: %q, region: eu-west-1, wait_time: 1s}\nsqlite: {path: %q}\n", endpoint, filepath.Join(t.TempDir(), "ledger.db"))
	}
	redrive := func(limit int) func(*testing.T) (string, string) {
		return func(t *testing.T) (string, string) {
			topic := uniqueTopic()
			letters := create(t, topic+"-letters", nil)
			named, err := client.GetQueueAttributes(t.Context(), &awssqs.GetQueueAttributesInput{QueueUrl: &letters, AttributeNames: []sqstypes.QueueAttributeName{"QueueArn"}})
			require.NoError(t, err)
			create(t, topic, map[string]string{"RedrivePolicy": fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":%d}`, named.Attributes["QueueArn"], limit)})
			return yaml(t, address.URL), topic
		}
	}
	retention := func(seconds string) func(*testing.T) (string, string) {
		return func(t *testing.T) (string, string) {
			topic := uniqueTopic()
			create(t, topic, nil)
			return yaml(t, telling(t, address.URL, "MessageRetentionPeriod", seconds)), topic
		}
	}
	find(t, []misconfiguration{
		{what: "no queue", plant: func(t *testing.T) (string, string) { return yaml(t, address.URL), uniqueTopic() }, check: "sqs-queue", says: "has no queue"},
		{what: "a message is given up after one delivery", plant: redrive(1), check: "sqs-redrive", says: "without ever being processed", runs: true},
		{what: "a message is given up before Hapax does", plant: redrive(3), check: "sqs-redrive", says: "SQS gives messages up before Hapax does", warning: true},
		{what: "messages kept longer than the window", plant: retention("1209600"), check: "sqs-retention", says: "the queue keeps messages longer (336h0m0s) than dedup.window remembers events (168h0m0s)", runs: true},
		{what: "a server that does not tell its retention", plant: redrive(3), check: "sqs-retention", says: "does not say how long", warning: true},
	})
	configuration, topic := retention("345600")(t) // the default of Amazon's
	found, err := doctor(t, configuration, topic)
	require.NoError(t, err)
	require.Equal(t, "messages are kept 96h0m0s, marks 168h0m0s", found["sqs-retention"].Found)
}

// telling is a server that answers like the one at the address, and with one more
// attribute of its queues: the one of the tests does not tell all that Amazon's does.
func telling(t *testing.T, address, attribute, value string) string {
	target, err := url.Parse(address)
	require.NoError(t, err)
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) { request.SetURL(target) },
		ModifyResponse: func(response *http.Response) error {
			if !strings.HasSuffix(response.Request.Header.Get("X-Amz-Target"), ".GetQueueAttributes") {
				return nil
			}
			answer := struct{ Attributes map[string]string }{map[string]string{}}
			if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
				return err
			}
			answer.Attributes[attribute] = value
			body, err := json.Marshal(answer)
			response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			response.Header.Set("Content-Length", fmt.Sprint(len(body)))
			return err
		},
	})
	t.Cleanup(server.Close)
	return server.URL
}
