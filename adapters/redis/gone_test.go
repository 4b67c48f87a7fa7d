package redis_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/adapters/redis"
)

// A group that is gone, alone or with its stream, because somebody deleted it or a
// fail-over lost it, is made anew, whatever its consumers were at when it went.
func TestGroupThatIsGone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		stream, busy bool
	}{
		{"group of a waiting consumer", false, false},
		{"group of a busy consumer", false, true},
		{"stream of a waiting consumer", true, false},
		{"stream of a busy consumer", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			broker, topic, client := openShared(t, nil), newTopic(t), rawClient(t)
			messages := subscribe(t, broker, topic, adapters.Subscription{Window: 1})
			held := message.NewMessage("", nil)
			if c.busy {
				require.NoError(t, broker.Publisher().Publish(topic, sample()))
				held = receive(t, messages)
				turn := fmt.Sprintf("hapax:turn:%d:%s:group", len(topic), topic)
				require.Eventually(t, func() bool { return client.Exists(t.Context(), turn).Val() == 0 }, 20*time.Second, time.Millisecond, "it keeps the turn")
			}
			if c.stream {
				require.NoError(t, client.Del(t.Context(), topic).Err())
			} else {
				require.NoError(t, client.XGroupDestroy(t.Context(), topic, "group").Err())
			}
			held.Ack()
			require.Eventually(t, func() bool {
				groups, err := client.XInfoGroups(t.Context(), topic).Result()
				return err == nil && len(groups) == 1
			}, 20*time.Second, 5*time.Millisecond, "the group was not made anew")
			require.NoError(t, broker.Publisher().Publish(topic, message.NewMessage("new", nil)))
			for msg := held; msg.UUID != "new"; { // what was acknowledged in a lost group comes again
				msg = receive(t, messages)
				msg.Ack()
			}
			drained(t, client, topic)
		})
	}
}

// Servers word differently what a script met.
func TestErrorsOfAGroupThatIsGone(t *testing.T) {
	for text, gone := range map[string]bool{
		"NOGROUP No such key 'orders' or consumer group 'group' in XREADGROUP with GROUP option":                                   true,
		"NOGROUP No such consumer group 'group' for key name 'orders' script: 47d4, on @user_script:31.":                           true, // 7
		"ERR Error running script (call to f_47d4): @user_script:31: NOGROUP No such consumer group 'group' for key name 'orders'": true, // 6.2
		"ERR no such key script: 47d4, on @user_script:31.":                                                                        true, // 7
		"ERR Error running script (call to f_47d4): @user_script:31: ERR no such key":                                              true, // 6.2
		"WRONGTYPE Operation against a key holding the wrong kind of value script: 47d4, on @user_script:31.":                      false,
		"OOM command not allowed when used memory > 'maxmemory'.":                                                                  false,
	} {
		require.Equal(t, gone, redis.GroupIsGone(fmt.Errorf("take turn: %s", text)), text)
	}
}
