package kafka

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// maxName is the longest topic name that Kafka takes.
const maxName = 249

// TopicName maps a logical topic name to Kafka's. Letters, digits, '.', '_' and
// '-' stay as they are; any other byte becomes _xHH, its hexadecimal value in
// capitals. So that no two names meet, an underscore that already stands before
// such an xHH becomes _x5F; and "." and "..", which Kafka refuses, have their dots
// encoded. "orders/eu" is orders_x2Feu.
//
// Kafka itself refuses a topic that differs from another one only by '.' and '_'.
func TopicName(logical string) (string, error) {
	if logical == "" {
		return "", errors.New("the topic is empty")
	}
	dots := logical == "." || logical == ".."
	var name strings.Builder
	for i := range len(logical) {
		b := logical[i]
		switch {
		case b == '_' && isEscape(logical[i:]), b == '.' && dots, !legal(b):
			fmt.Fprintf(&name, "_x%02X", b)
		default:
			name.WriteByte(b)
		}
	}
	if name.Len() > maxName {
		return "", fmt.Errorf("topic %q is %d bytes long in Kafka, which takes %d: use a shorter name", logical, name.Len(), maxName)
	}
	return name.String(), nil
}

func legal(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '.' || b == '_' || b == '-'
}

func isEscape(s string) bool {
	hexadecimal := func(b byte) bool { return b >= '0' && b <= '9' || b >= 'A' && b <= 'F' }
	return len(s) >= 4 && s[1] == 'x' && hexadecimal(s[2]) && hexadecimal(s[3])
}

// IDLogName names the log of processed IDs of a group on a topic, given by its
// Kafka name: "<group>.<topic>.hapax-ids". What is too long for Kafka is cut, and
// a hash put in its place. Two pairs of group and topic can share a log ("a" on
// "b.c", "a.b" on "c"): IDs are of one scope each, so they do not mix.
func IDLogName(group, topic string) string {
	const suffix = ".hapax-ids"
	var name strings.Builder
	for i := range len(group) {
		if b := group[i]; legal(b) {
			name.WriteByte(b)
		} else {
			fmt.Fprintf(&name, "_x%02X", b)
		}
	}
	name.WriteByte('.')
	name.WriteString(topic)
	if name.Len()+len(suffix) <= maxName {
		return name.String() + suffix
	}
	sum := sha256.Sum256([]byte(group + "\x00" + topic))
	hash := "." + hex.EncodeToString(sum[:12])
	return name.String()[:maxName-len(suffix)-len(hash)] + hash + suffix
}
