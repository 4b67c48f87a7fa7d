package redis

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"
	"github.com/zeebo/xxh3"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// lane says what a message is ordered with.
func (c *consumer) lane(msg *message.Message) string {
	switch c.subscription.Ordering {
	case adapters.OrderByPartition:
		return "*" // the stream is one partition
	case adapters.OrderByKey:
		return msg.Metadata.Get(dedup.MetaKey)
	default:
		return ""
	}
}

// takeTurn asks for the turn to read, and takes over what belongs to nobody: that of
// dead members, of those that left, and what other programs of the group forgot.
func (c *consumer) takeTurn(ctx context.Context, m *membership) (has bool, err error) {
	k, config := &c.keys, &c.broker.config
	m.mu.Lock()
	held := int64(len(m.held))
	m.mu.Unlock()
	reply, err := turnScript.Run(ctx, c.broker.client, []string{k.members, c.topic, k.turn, k.waiting, k.mail + m.name, k.lanes},
		m.name, c.subscription.Group, config.Lease.Milliseconds(), flag(m.orphaned)).Slice()
	if errors.Is(err, redis.Nil) {
		m.cancel(errLeaseLost)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("take turn: %w", err)
	}
	if len(reply) != 6 {
		return false, fmt.Errorf("take turn: the script answered %v", reply)
	}
	for _, consumer := range reply[3].([]any) {
		config.Logger.Info("took a consumer for dead", "topic", c.topic, "group", c.subscription.Group, "consumer", consumer)
	}
	for _, entry := range reply[4].([]any) {
		c.lose(entry.(string))
	}
	if has = reply[0].(int64) == 1; has {
		m.orphaned = false
	}
	mail := reply[1].(int64) > 0
	// More is pending than is held: a read whose answer was given up reached the server
	// after this consumer had looked for what it missed.
	strayed := !m.unseen && !mail && reply[5].(int64) > held
	taken := reply[2].(int64) > 0 || strayed
	m.unseen = m.unseen || taken || mail
	m.unassigned = m.unassigned || taken
	return has, nil
}

// passTurn gives the turn back. If that fails, the next turn is taken anyway.
func (c *consumer) passTurn(ctx context.Context, m *membership) error {
	err := passScript.Run(ctx, c.broker.client, []string{c.keys.turn, c.keys.waiting}, m.name).Err()
	if err != nil {
		return fmt.Errorf("pass turn: %w", err)
	}
	return nil
}

// load hands out what is pending for this member without its having seen it. It
// comes before the next read, so that lanes keep their order.
func (c *consumer) load(ctx context.Context, m *membership) (loaded, error) {
	for from := "-"; ; {
		room := min(c.flow.Room(), readBatch)
		if room == 0 {
			return loadedSome, nil
		}
		pending, err := c.broker.client.XPendingExt(ctx, &redis.XPendingExtArgs{
			Stream: c.topic, Group: c.subscription.Group, Consumer: m.name, Start: from, End: "+", Count: readBatch,
		}).Result()
		if err != nil {
			return loadedSome, fmt.Errorf("list own pending entries: %w", err)
		}
		if len(pending) == 0 {
			return loadedAll, nil
		}
		args := []any{m.name, c.subscription.Group, c.suspicion(), flag(!m.holdsSuspect())}
		for _, p := range pending {
			if !m.holds(p.ID) && len(args)-4 < room {
				args = append(args, p.ID)
				from = "(" + p.ID
			}
		}
		if len(args) == 4 {
			from = "(" + pending[len(pending)-1].ID
			continue
		}
		if some, err := c.loadThese(ctx, m, args); err != nil || some != loadedAll {
			return some, err
		}
	}
}

// loaded says how far load came.
type loaded int

const (
	loadedAll     loaded = iota
	loadedSome           // the window is full
	loadedSuspect        // a suspect is in the way
)

func (c *consumer) loadThese(ctx context.Context, m *membership, args []any) (loaded, error) {
	reply, err := loadScript.Run(ctx, c.broker.client, []string{c.keys.members, c.topic}, args...).Slice()
	if errors.Is(err, redis.Nil) {
		m.cancel(errLeaseLost)
		return loadedSome, nil
	}
	if err != nil {
		return loadedSome, fmt.Errorf("load pending entries: %w", err)
	}
	for _, entry := range reply[1].([]any) {
		c.lose(entry.(string))
	}
	var deliveries []*delivery
	for _, entry := range reply[0].([]any) {
		id, attempts, values := adopted(entry.([]any))
		deliveries = append(deliveries, m.deliver(redis.XMessage{ID: id, Values: values}, attempts))
	}
	some := loadedAll
	if reply[2].(int64) > 0 {
		some = loadedSuspect
	}
	if err := c.offer(ctx, m, deliveries); err != nil {
		return loadedSome, err
	}
	if m.orphaned {
		some = loadedSome
	}
	return some, nil
}

// arbitrate asks who is to handle the deliveries that have a lane, and returns those
// that are for this member.
func (c *consumer) arbitrate(ctx context.Context, m *membership, deliveries []*delivery) ([]*delivery, error) {
	args := []any{m.name, c.subscription.Group, c.keys.mail}
	var asked []*delivery
	for _, d := range deliveries {
		if d.lane != "" {
			d.field = laneField(d.lane)
			args = append(args, d.field, d.entry)
			asked = append(asked, d)
		}
	}
	if len(asked) == 0 {
		return deliveries, nil
	}
	given, err := arbitrateScript.Run(ctx, c.broker.client, []string{c.keys.members, c.topic, c.keys.lanes}, args...).Int64Slice()
	if errors.Is(err, redis.Nil) {
		m.cancel(errLeaseLost)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("arbitrate lanes: %w", err)
	}
	switch {
	case len(given) == 0:
		return deliveries, nil
	case given[0] < 0:
		// None is handed out. They stay pending, unseen, behind what comes first.
		m.unseen, m.unassigned, m.orphaned = true, true, true
		return nil, nil
	}
	others := make(map[*delivery]bool, len(given))
	for _, i := range given {
		others[asked[i]] = true
	}
	return slices.DeleteFunc(deliveries, func(d *delivery) bool { return others[d] }), nil
}

// laneField is the lane's field in the hash of lanes. Two keys that share a hash
// merely wait for each other.
func laneField(lane string) string {
	var field [8]byte
	binary.BigEndian.PutUint64(field[:], xxh3.HashString(lane))
	return string(field[:])
}

// adopted reads an entry of the adopt script.
func adopted(entry []any) (id string, attempts int, values map[string]any) {
	fields := entry[2].([]any)
	values = make(map[string]any, len(fields)/2)
	for i := 0; i+1 < len(fields); i += 2 {
		values[fields[i].(string)] = fields[i+1]
	}
	return entry[0].(string), int(entry[1].(int64)), values
}

// lose reports an entry that was trimmed or deleted before it was acknowledged.
// Nothing can bring it back; never in silence.
func (c *consumer) lose(entry string) {
	c.broker.losses.Add(1)
	c.broker.config.Logger.Error("message lost: it was trimmed or deleted from the stream before it was acknowledged",
		"topic", c.topic, "group", c.subscription.Group, "entry", entry)
}

func (m *membership) holds(entry string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held[entry] != nil
}

// holdsSuspect reports whether the member works on a message that was handed out
// suspiciously often.
func (m *membership) holdsSuspect() bool {
	suspicion := m.consumer.suspicion()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.held {
		if d.suspect(suspicion) {
			return true
		}
	}
	return false
}

func (d *delivery) suspect(suspicion int) bool { return d.adopted > suspicion }

// slow lists the entries that the server has not heard of for a while.
func (m *membership) slow(longer time.Duration) (entries []string) {
	limit := time.Now().Add(-longer)
	m.mu.Lock()
	defer m.mu.Unlock()
	for entry, d := range m.held {
		if d.since.Before(limit) && !d.settled.Load() {
			entries = append(entries, entry)
		}
	}
	return entries
}

// renewed notes when entries were renewed, and reports those that somebody trimmed:
// they are being handled, from memory, but would be lost if this process died.
func (m *membership) renewed(entries, gone []string) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, entry := range entries {
		if d := m.held[entry]; d != nil {
			d.since = now
		}
	}
	for _, entry := range gone {
		if d := m.held[entry]; d != nil && !d.settled.Load() {
			m.consumer.broker.config.Logger.Warn("a message that is being handled was trimmed from the stream: it would be lost with this process",
				"position", d.Position)
		}
	}
}
