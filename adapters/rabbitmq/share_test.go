package rabbitmq_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/rabbitmq"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/internal/fault/proxy"
	"github.com/hapax-go/hapax/internal/servers"
)

// A member that was away finds its partitions with another one when it is back, and
// consumes them as well. That both count them among their own must not leave others to
// nobody.
func TestMemberReturns(t *testing.T) {
	t.Parallel()
	for _, kind := range []rabbitmq.QueueType{rabbitmq.Quorum, rabbitmq.Classic} {
		t.Run(string(kind), func(t *testing.T) {
			const partitions = 12
			server := servers.Require(t, servers.RabbitMQ)
			between, err := proxy.Listen(server.Hosts[0], 1)
			require.NoError(t, err)
			t.Cleanup(between.Close)
			topic, setting := newTopic(t), func(c *rabbitmq.Config) { c.Partitions, c.QueueType = partitions, kind }
			stays := opened(t, setting)
			goes := opened(t, func(c *rabbitmq.Config) {
				setting(c)
				c.URL = strings.Replace(server.URL, server.Hosts[0], between.Addr(), 1)
			})
			members := []<-chan *message.Message{subscribe(t, stays, topic, nil), subscribe(t, goes, topic, nil)}
			require.Eventually(t, func() bool { return balanced(t, topic, partitions, 2) }, 30*time.Second, 50*time.Millisecond)
			between.Down()
			require.Eventually(t, func() bool { return balanced(t, topic, partitions, 1) }, 30*time.Second, 50*time.Millisecond)
			require.NoError(t, between.Up())

			for round := 0; ; round++ {
				var batch []*message.Message
				for slot := range 256 {
					msg := newMessage(fmt.Sprint(round, "-", slot))
					msg.Metadata.Set(dedup.MetaKey, strconv.Itoa(slot))
					batch = append(batch, msg)
				}
				require.NoError(t, stays.Publisher().Publish(topic, batch...))
				read, late := [2]map[string]bool{{}, {}}, time.After(30*time.Second)
				for seen := map[string]bool{}; len(seen) < len(batch); {
					member, msg := 0, (*message.Message)(nil)
					select {
					case msg = <-members[0]:
					case msg = <-members[1]:
						member = 1
					case <-late:
						require.FailNow(t, "a partition is read by nobody", "%d messages came", len(seen))
					}
					if id := msg.Metadata.Get(dedup.MetaEventID); strings.HasPrefix(id, fmt.Sprint(round, "-")) {
						seen[id] = true // or it comes again, from a round before
						read[member][partitionOf(msg)] = true
					}
					msg.Ack()
				}
				if len(read[0]) == partitions/2 && len(read[1]) == partitions/2 {
					return
				}
				require.Less(t, round, 1000, "the members do not share")
			}
		})
	}
}

func partitionOf(msg *message.Message) string {
	queue, _, _ := strings.Cut(adapters.DeliveryFrom(msg.Context()).Position, "/")
	return queue
}

// The server takes consumers away, and keeps their channel: the queue was deleted, or the
// node that it is on was restarted. Members must be counted again, or those to come get
// too few partitions.
func TestMembersAreCountedAgain(t *testing.T) {
	t.Parallel()
	const partitions = 4
	topic := newTopic(t)
	for range 2 {
		subscribe(t, opened(t, partitioned(partitions, "")), topic, nil)
	}
	require.Eventually(t, func() bool { return balanced(t, topic, partitions, 2) }, 30*time.Second, 50*time.Millisecond)
	channel, arguments := raw(t), map[string]amqp.Table{topic + "%members_group": {"x-max-length": partitions}}
	for number := range partitions {
		arguments[fmt.Sprintf("%s%%holders-%d_group", topic, number)] = nil
	}
	for queue := range arguments {
		_, err := channel.QueueDelete(queue, false, false, false)
		require.NoError(t, err)
		_, err = channel.QueueDeclare(queue, true, false, false, false, arguments[queue])
		require.NoError(t, err)
	}
	counted := func() bool {
		for queue := range arguments {
			found, err := channel.QueueDeclarePassive(queue, true, false, false, false, nil)
			require.NoError(t, err)
			if found.Consumers == 0 {
				return false
			}
		}
		return balanced(t, topic, partitions, 2)
	}
	require.Eventually(t, counted, 30*time.Second, 50*time.Millisecond)
}

// The connection breaks when a member is about to join again.
func TestConnectionLostWhileJoining(t *testing.T) {
	t.Parallel()
	var armed, bound, broken atomic.Bool
	address := before(t, "amqp", func(l net.Listener) net.Listener { return l }, func(to io.Writer, from io.Reader) {
		eachFrame(from, func(frame []byte) {
			switch {
			case frame[0] != 1 || !armed.Load():
			case bytes.Equal(frame[7:11], []byte{0, 40, 0, 31}): // exchange.bind-ok, the last answer to declarations
				bound.Store(true)
			case bytes.Equal(frame[7:11], []byte{0, 20, 0, 11}) && bound.Load() && !broken.Swap(true): // channel.open-ok
				_ = to.(net.Conn).Close()
			}
			_, _ = to.Write(frame)
		})
	})
	topic := newTopic(t)
	broker := opened(t, func(c *rabbitmq.Config) { c.URL, c.Partitions = address, 2 })
	messages := subscribe(t, broker, topic, nil)
	armed.Store(true)
	_, err := raw(t).QueueDelete(topic+"%members_group", false, false, false)
	require.NoError(t, err)
	require.Eventually(t, broken.Load, 30*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return balanced(t, topic, 2, 1) }, 30*time.Second, 50*time.Millisecond)
	require.NoError(t, broker.Publisher().Publish(topic, newMessage("after")))
	receive(t, messages).Ack()
}
