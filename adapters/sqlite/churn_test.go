package sqlite_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/sqlite"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// churn is what members that come, go and die do with the messages of a few keys.
type churn struct {
	mu      sync.Mutex
	next    map[string]int  // the number that is due, by key
	busy    map[string]bool // keys of which somebody has a message
	left    int
	deaths  int // acknowledgements of the dead may be lost
	joining sync.Mutex
}

// take notes that somebody has a message, and returns what is wrong with that.
func (c *churn) take(msg *message.Message) (key string, number int, wrong string) {
	key, text, _ := strings.Cut(string(msg.Payload), "/")
	number, _ = strconv.Atoi(text)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.busy[key]:
		wrong = "two members have messages of a key"
	case number > c.next[key]:
		wrong = "it overtook " + strconv.Itoa(c.next[key])
	case number < c.next[key] && c.deaths == 0:
		wrong = "it was acknowledged"
	}
	c.busy[key] = true
	return key, number, wrong
}

// put notes that it is over, and whether it was acknowledged.
func (c *churn) put(key string, number int, acked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy[key] = false
	if acked && number == c.next[key] {
		c.next[key]++
		c.left--
	}
}

func (c *churn) done() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left == 0
}

// member joins, works for a while, and leaves in the middle of something, or dies.
func (c *churn) member(t *testing.T, path string, deadly bool) {
	type taken struct {
		msg    *message.Message
		key    string
		number int
	}
	broker, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Synchronous: sqldb.Normal, Logger: quiet, LeaseDuration: time.Hour, PollInterval: time.Millisecond})
	if err != nil {
		t.Error(err)
		return
	}
	c.joining.Lock()
	before := consumers(t, broker)
	messages := subscribe(t, broker, input, func(s *adapters.Subscription) {
		s.Window, s.MaxDeliveries, s.RedeliveryDelay, s.DrainTimeout = 1+rand.IntN(12), -1, time.Millisecond, time.Millisecond
	})
	id := slices.DeleteFunc(consumers(t, broker), func(id int64) bool { return slices.Contains(before, id) })
	c.joining.Unlock()
	if len(id) != 1 {
		t.Error("joined as", id)
		return
	}
	var held []taken
	for quota := rand.IntN(60); quota > 0 && !c.done(); quota-- {
		select {
		case msg := <-messages:
			key, number, wrong := c.take(msg)
			if wrong != "" {
				t.Errorf("%s: %s", msg.Payload, wrong)
			}
			held = append(held, taken{msg, key, number})
		case <-time.After(10 * time.Millisecond):
		}
		for len(held) > 0 && rand.IntN(3) > 0 {
			i := rand.IntN(len(held))
			h := held[i]
			held = slices.Delete(held, i, i+1)
			acked := rand.IntN(5) > 0
			c.put(h.key, h.number, acked)
			if acked {
				h.msg.Ack()
			} else {
				h.msg.Nack()
			}
		}
	}
	for _, h := range held {
		c.put(h.key, h.number, false)
	}
	if deadly && rand.IntN(2) == 0 {
		c.mu.Lock()
		c.deaths++
		c.mu.Unlock()
		sqlite.Abandon(broker)
		defer func() { _ = broker.Close() }() // says that it could not leave
		for {                                 // until the others, who write as well, let it
			if _, err := broker.DB().Exec(`UPDATE hapax_consumers SET lease_until = 1 WHERE id = ?`, id[0]); err == nil {
				return
			}
		}
	}
	if err := broker.Close(); err != nil {
		t.Error(err)
	}
}

func consumers(t *testing.T, broker *sqlite.Broker) (ids []int64) {
	rows, err := broker.DB().Query(`SELECT id FROM hapax_consumers`)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			t.Error(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// Whoever joins, leaves or dies, and whatever they hold then: a key is with one member at a
// time, in order, nothing is lost, and what was acknowledged does not come again.
func TestMembersComeAndGo(t *testing.T) {
	for name, deadly := range map[string]bool{"leaving": false, "dying": true} {
		t.Run(name, func(t *testing.T) {
			path := file(t)
			publisher := openBroker(t, path, nil)
			const keys, each = 7, 20
			c := &churn{next: map[string]int{}, busy: map[string]bool{}, left: keys * each}
			var members sync.WaitGroup
			for range 4 {
				members.Go(func() {
					for !c.done() && !t.Failed() {
						c.member(t, path, deadly)
					}
				})
			}
			for number := range each {
				for key := range keys {
					payload := fmt.Sprintf("%d/%d", key, number)
					publish(t, publisher, event(payload, fmt.Sprint(key)))
				}
			}
			ended := make(chan struct{})
			go func() { members.Wait(); close(ended) }()
			select {
			case <-ended:
			case <-time.After(2 * time.Minute):
				c.mu.Lock()
				defer c.mu.Unlock()
				require.FailNow(t, "stands still", "%v", c.next)
			}
		})
	}
}
