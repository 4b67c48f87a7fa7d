package plain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Management is the server's HTTP API, with credentials in its URL. It tells what
// AMQP does not: how much is unacknowledged.
type Management string

// Recreate makes a virtual host anew, empty, with all rights for the API's user.
func (m Management) Recreate(ctx context.Context, vhost string) error {
	base, err := url.Parse(string(m))
	if err != nil || m == "" {
		return errors.New("recreate virtual host: the management plugin's address is not known")
	}
	name := url.PathEscape(vhost)
	if err := m.Delete(ctx, vhost); err != nil {
		return err
	}
	if err := m.call(ctx, http.MethodPut, "/api/vhosts/"+name, "", nil); err != nil {
		return err
	}
	return m.call(ctx, http.MethodPut, "/api/permissions/"+name+"/"+url.PathEscape(base.User.Username()),
		`{"configure":".*","write":".*","read":".*"}`, nil)
}

// Delete removes a virtual host, if there is one, with all that is in it.
func (m Management) Delete(ctx context.Context, vhost string) error {
	err := m.call(ctx, http.MethodDelete, "/api/vhosts/"+url.PathEscape(vhost), "", nil)
	if errors.Is(err, errNotFound) {
		return nil
	}
	return err
}

// Held counts the messages in each queue of a virtual host, ready or delivered and
// not acknowledged; -1 when it was not counted yet. The server counts every five
// seconds.
func (m Management) Held(ctx context.Context, vhost string) (map[string]int64, error) {
	var queues []struct {
		Name     string `json:"name"`
		Messages *int64 `json:"messages"`
	}
	if err := m.call(ctx, http.MethodGet, "/api/queues/"+url.PathEscape(vhost), "", &queues); err != nil {
		return nil, err
	}
	held := map[string]int64{}
	for _, queue := range queues {
		held[queue.Name] = -1 // not counted yet
		if queue.Messages != nil {
			held[queue.Name] = *queue.Messages
		}
	}
	return held, nil
}

var errNotFound = errors.New("not found")

func (m Management) call(ctx context.Context, method, path, body string, answer any) error {
	base, err := url.Parse(string(m))
	if err != nil {
		return errors.New("rabbitmq management: the address is not a URL")
	}
	user := base.User
	base.User = nil // it must not get into an error
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, base.String()+path, strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("rabbitmq management: %w", err)
	}
	password, _ := user.Password()
	request.SetBasicAuth(user.Username(), password)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("rabbitmq management: %w", err)
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusNotFound:
		return fmt.Errorf("rabbitmq management: %s %s: %w", method, path, errNotFound)
	case response.StatusCode >= 300:
		text, _ := io.ReadAll(io.LimitReader(response.Body, 300))
		return fmt.Errorf("rabbitmq management: %s %s: %s: %s", method, path, response.Status, text)
	case answer != nil:
		if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
			return fmt.Errorf("rabbitmq management: %s %s: %w", method, path, err)
		}
	}
	return nil
}
