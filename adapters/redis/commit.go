package redis

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/hapax-go/hapax/adapters/redis/internal/marks"
	"github.com/hapax-go/hapax/dedup"
)

// unit is what commits together, or not at all: marks, outputs and the
// acknowledgement of entries.
type unit struct {
	set     marks.Set
	marks   []mark
	outputs []encoded
	entries []entry
	// done is called once, with the outcome: nil, one of dedup's errors, or
	// another, after which nobody knows whether it was committed. Without done the
	// outcome goes to the channel, which has room for it.
	done    func(error)
	outcome chan error
}

func (u *unit) finish(err error) {
	if u.done != nil {
		u.done(err)
		return
	}
	u.outcome <- err
}

// entry is one to acknowledge, and the lane it was put into, if it has one.
type entry struct{ id, lane string }

type mark struct {
	id    dedup.ID
	tag   marks.Tag
	token uint64 // of the lease, where there is one
	spare uint64 // the token to take a lease with

	packed [26]byte
}

// MarshalBinary is the mark as scripts have it. Arguments of calls are pointers to what
// is there already: values would be copied to the heap, one by one.
func (m *mark) MarshalBinary() ([]byte, error) {
	packed := append(append(m.packed[:0], m.id[:]...), m.tag[:]...)
	if m.token != 0 {
		packed = binary.BigEndian.AppendUint64(packed, m.token)
	}
	return packed, nil
}

// blob is bytes that can be an argument by their address.
type blob []byte

// MarshalBinary implements encoding.BinaryMarshaler.
func (b *blob) MarshalBinary() ([]byte, error) { return *b, nil }

const (
	// commitBatch is the most units of one script call, and commitBytes about how
	// much they may carry: the server does nothing else meanwhile. Twice as many
	// messages of a KiB take the server a tenth more each: it copies them several
	// times, and they no longer fit its processor's cache.
	commitBatch = 128
	commitBytes = 4 << 20
)

// Results of the commit script.
const (
	committed = iota
	duplicate
	conflicting
	lost
)

// await brings a unit into the next call, and waits for its outcome. Order among
// units that are in the queue together is kept; lanes see to it that units of one
// lane never are.
func (c *consumer) await(u *unit, m *membership) error {
	if u.outcome == nil {
		u.outcome = make(chan error, 1)
	}
	m.units.add(u)
	return <-u.outcome
}

// commit runs a batch of units.
func (m *membership) commit(units []*unit) {
	ctx, cancel := context.WithTimeout(context.Background(), m.consumer.broker.config.Timeout)
	defer cancel()
	if m.consumer.broker.config.Mode == Cluster {
		units = m.publishAhead(ctx, units)
	}
	for len(units) > 0 {
		call := m.newCall()
		call.units = make([]*unit, 0, len(units))
		rest := units[:0:0]
		for _, u := range units {
			if !call.add(u) {
				rest = append(rest, u)
			}
		}
		call.run(ctx)
		units = rest
	}
}

// call is one call of the commit script.
type call struct {
	member  *membership
	set     marks.Set
	units   []*unit
	keys    []string
	streams map[string]int // index in keys, from 1
	bytes   int
	marks   int
	outputs int
	entries int
}

const (
	// A script knows streams by one byte, and the outputs of a unit are counted by two.
	maxStreams, maxOutputs = 201, math.MaxUint16
	// ownKeys come before the streams of outputs.
	ownKeys = 6
)

// fits refuses a unit that no call could carry whole.
func (u *unit) fits() error {
	if len(u.outputs) > maxOutputs || len(u.entries) > maxOutputs {
		return fmt.Errorf("%w: %d outputs of %d events in one commit, the limit of each is %d: publish a part of them from an event of its own",
			dedup.ErrBadOutput, len(u.outputs), len(u.entries), maxOutputs)
	}
	if len(u.outputs) <= maxStreams-ownKeys {
		return nil
	}
	topics := map[string]bool{}
	for _, output := range u.outputs {
		topics[output.topic] = true
	}
	if len(topics) > maxStreams-ownKeys {
		return fmt.Errorf("%w: outputs to %d topics in one commit, the limit is %d: publish a part of them from an event of its own",
			dedup.ErrBadOutput, len(topics), maxStreams-ownKeys)
	}
	return nil
}

func (m *membership) newCall() *call {
	return &call{member: m, streams: map[string]int{}, keys: make([]string, ownKeys, 8)}
}

// add puts a unit into the call; false when it must go into another: the call is
// full, or has marks of another window.
func (c *call) add(u *unit) bool {
	if c.bytes > commitBytes || len(u.marks) > 0 && c.set.Key != "" && c.set != u.set || len(c.keys)+len(u.outputs) > maxStreams && len(c.units) > 0 {
		return false
	}
	c.units = append(c.units, u)
	if len(u.marks) > 0 {
		c.set = u.set
	}
	for _, output := range u.outputs {
		if c.streams[output.topic] == 0 {
			c.keys = append(c.keys, output.topic)
			c.streams[output.topic] = len(c.keys)
		}
		c.bytes += len(output.metadata) + len(output.body)
	}
	c.marks += len(u.marks)
	c.outputs += len(u.outputs)
	c.entries += len(u.entries)
	return true
}

// args are the script's arguments; commit.lua says which. What the server would parse
// as many small ones is packed.
func (c *call) args() []any {
	m, config := c.member, &c.member.consumer.broker.config
	slice := int64(0)
	if c.set.Key != "" {
		slice = c.set.SliceLength()
	}
	shapes, streams, laned := make([]byte, 0, 6*len(c.units)), make([]byte, 0, c.outputs), make([]byte, 0, c.entries)
	args := make([]any, 8, 8+c.marks+3*c.outputs+2*c.entries)
	for _, u := range c.units {
		shapes = binary.BigEndian.AppendUint16(shapes, uint16(len(u.marks)))
		shapes = binary.BigEndian.AppendUint16(shapes, uint16(len(u.outputs)))
		shapes = binary.BigEndian.AppendUint16(shapes, uint16(len(u.entries)))
		for i := range u.marks {
			args = append(args, &u.marks[i])
		}
	}
	for _, u := range c.units {
		for i := range u.outputs {
			output := &u.outputs[i]
			streams = append(streams, byte(c.streams[output.topic]))
			args = append(args, &output.uuid, &output.metadata, &output.body)
		}
	}
	for _, u := range c.units {
		for i := range u.entries {
			laned = append(laned, byte(min(len(u.entries[i].lane), 1)))
			args = append(args, &u.entries[i].id)
		}
	}
	for _, u := range c.units {
		for i := range u.entries {
			if u.entries[i].lane != "" {
				args = append(args, &u.entries[i].lane)
			}
		}
	}
	copy(args, []any{m.name, m.consumer.subscription.Group, slice, 0, flag(config.DeleteAcknowledged), shapes, streams, laned})
	return args
}

func (c *call) run(ctx context.Context) {
	consumer := c.member.consumer
	c.keys[0], c.keys[1], c.keys[2] = consumer.keys.members, consumer.topic, consumer.keys.members
	c.keys[3], c.keys[4], c.keys[5] = consumer.leases, consumer.keys.lanes, consumer.keys.windows
	if c.set.Key != "" {
		c.keys[2] = c.set.Key
	}
	results, err := commitScript.Run(ctx, consumer.broker.client, c.keys, c.args()...).Slice()
	if err == nil && len(results) != len(c.units) {
		err = fmt.Errorf("the script answered %d of %d units", len(results), len(c.units))
	}
	for i, u := range c.units {
		if err != nil {
			u.finish(fmt.Errorf("commit on redis: %w", err))
			continue
		}
		u.finish(outcome(results[i]))
	}
}

func outcome(result any) error {
	switch result := result.(type) {
	case int64:
		switch result {
		case committed:
			return nil
		case duplicate:
			return dedup.ErrLostRace
		case conflicting:
			return dedup.ErrConflict
		case lost:
			return dedup.ErrLeaseLost
		}
	case string:
		return errors.New("publish to stream " + result)
	}
	return fmt.Errorf("the script answered %v", result)
}
