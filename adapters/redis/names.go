package redis

import (
	"fmt"
	"strings"
	"time"

	"github.com/hapax-go/hapax/adapters/redis/internal/marks"
)

// A topic's stream is the key of the same name, as with the official adapter.
// Hapax's own keys begin with "hapax:".

// hashTag is the part of a key that decides on its slot in a cluster.
func hashTag(key string) string {
	if _, rest, found := strings.Cut(key, "{"); found {
		if tag, _, closed := strings.Cut(rest, "}"); closed && tag != "" {
			return tag
		}
	}
	return key
}

// checkTopic refuses what cannot be a stream here.
func (b *Broker) checkTopic(topic string) error {
	switch {
	case topic == "":
		return fmt.Errorf("the topic is empty")
	case strings.HasPrefix(topic, "hapax:"):
		return fmt.Errorf("topic %q: names that begin with hapax: are those of Hapax's own keys: choose another", topic)
	case b.config.Mode == Cluster && strings.Contains(hashTag(topic), "}"):
		return fmt.Errorf("topic %q: its closing brace makes it impossible to keep its keys on one node of a cluster: choose another name", topic)
	}
	return nil
}

// beside is the prefix of keys that scripts use together with a stream. In a
// cluster that is the stream's slot; elsewhere the keys serve all streams.
func (b *Broker) beside(stream string) string {
	if b.config.Mode == Cluster {
		return "hapax:{" + hashTag(stream) + "}:"
	}
	return "hapax:"
}

// keys are those of a group of a stream.
type keys struct {
	members string // a sorted set: consumers by the end of their lease, server time in ms
	lanes   string // a hash: busy lanes, and who has which entry as the last one
	turn    string // a string: whose turn to read it is
	waiting string // exists when others wait for their turn
	mail    string // the prefix of flags: a member was given entries
	windows string // a hash: under which windows the group's handler has marked
}

func (b *Broker) keys(stream, group string) keys {
	// The length tells where the stream's name ends: both may contain colons.
	name := fmt.Sprintf("%d:%s:%s", len(stream), stream, group)
	beside := b.beside(stream)
	return keys{
		members: beside + "members:" + name, lanes: beside + "lanes:" + name, turn: beside + "turn:" + name,
		waiting: beside + "waiting:" + name, mail: beside + "mail:" + name + ":", windows: beside + "windows:" + name,
	}
}

func (b *Broker) leasesPrefix(stream string) string { return b.beside(stream) + "lease:" }

func (b *Broker) marks(stream string, window time.Duration) marks.Set {
	return marks.NewSet(b.beside(stream)+"marks", window)
}
