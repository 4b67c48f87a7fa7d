package probe

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// SQS lists the queues. Nothing in the protocol names a version, so it is "".
func SQS(ctx context.Context, endpoint string) (string, error) {
	url := strings.TrimSuffix(endpoint, "/") + "/?Action=ListQueues&Version=2012-11-05"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fmt.Errorf("ask sqs: %w", err)
	}
	client := &http.Client{Timeout: attempt, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("ask sqs: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return "", fmt.Errorf("ask sqs: %w", err)
	}
	if response.StatusCode != http.StatusOK || !strings.Contains(string(body), "ListQueues") {
		return "", fmt.Errorf("ask sqs at %s: %s, expected the list of queues", endpoint, response.Status)
	}
	return "", nil
}
