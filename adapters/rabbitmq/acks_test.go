package rabbitmq

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// server checks acknowledgements as RabbitMQ does: a tag that it does not wait
// for closes the channel.
type server struct {
	waiting map[uint64]bool
}

func (s *server) ack(t require.TestingT, tag uint64, multiple bool) {
	require.True(t, s.waiting[tag], "unknown delivery tag %d", tag)
	if !multiple {
		delete(s.waiting, tag)
		return
	}
	for other := range s.waiting {
		if other <= tag {
			delete(s.waiting, other)
		}
	}
}

// Whatever is done in whatever order, only finished tags are acknowledged, each
// once, and in the end all of them.
func TestAcksInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		acks, server := newAcks(), &server{waiting: map[uint64]bool{}}
		open, next := []uint64{}, uint64(1)
		finished := map[uint64]bool{}
		take := func(held bool) {
			upTo, singles, waiting := acks.take(held)
			if upTo > 0 {
				server.ack(t, upTo, true)
			}
			for _, tag := range singles {
				server.ack(t, tag, false)
			}
			if held {
				require.Zero(t, waiting)
				require.Len(t, server.waiting, len(open), "everything finished is acknowledged")
			}
			for _, tag := range open {
				require.True(t, server.waiting[tag], "tag %d was acknowledged before it was finished", tag)
			}
			require.Len(t, server.waiting, len(open)+waiting)
			require.Equal(t, waiting, acks.ready())
		}
		t.Repeat(map[string]func(*rapid.T){
			"deliver": func(*rapid.T) {
				acks.begin(next)
				server.waiting[next] = true
				open = append(open, next)
				next++
			},
			"finish": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip("nothing is open")
				}
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				acks.finish(open[i])
				finished[open[i]] = true
				open = append(open[:i], open[i+1:]...)
			},
			"finish again": func(t *rapid.T) {
				for tag := range finished {
					acks.finish(tag)
					break
				}
			},
			"acknowledge":        func(*rapid.T) { take(false) },
			"acknowledge singly": func(*rapid.T) { take(true) },
		})
	})
}
