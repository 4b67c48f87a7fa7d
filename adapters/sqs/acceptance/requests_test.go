package acceptance_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// silent loses the renewals of messages on their way to the server.
type silent struct{ *http.Client }

// Do implements aws.HTTPClient.
func (s silent) Do(request *http.Request) (*http.Response, error) {
	if strings.HasSuffix(request.Header.Get("X-Amz-Target"), "ChangeMessageVisibilityBatch") {
		return nil, io.ErrUnexpectedEOF
	}
	return s.Client.Do(request)
}

// withoutAttempts takes the attempt IDs out of receives. The server looks at all of the
// last fifteen minutes with each of them, which makes a long run longer and longer.
// They count where answers get lost, and the runs for that are short.
type withoutAttempts struct{ *http.Client }

// Do implements aws.HTTPClient.
func (w withoutAttempts) Do(request *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(request.Header.Get("X-Amz-Target"), ".ReceiveMessage") {
		return w.Client.Do(request)
	}
	var input map[string]any
	if err := json.NewDecoder(request.Body).Decode(&input); err != nil {
		return nil, err
	}
	delete(input, "ReceiveRequestAttemptId")
	body, err := json.Marshal(input)
	if err != nil {
		return nil, err
	}
	request = request.Clone(request.Context())
	request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return w.Client.Do(request)
}
