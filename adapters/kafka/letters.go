package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lettersGroup is the group whose committed offsets say which letters an operator
// has removed: Kafka cannot delete a record from the middle of a log. The offset is
// that of the first letter still there; those removed beyond it are in the commit's
// metadata, as "5-9,12".
const lettersGroup = "hapax.letters"

// maxRemoved bounds the metadata of a commit: brokers take 4096 bytes by default.
const maxRemoved = 4000

// Letters implements adapters.LetterBox. A removed letter is not shown again; it
// stays in the topic until all that are older are removed too, or its retention ends.
func (b *Broker) Letters(ctx context.Context, topic string, visit func(*message.Message) (bool, error)) error {
	name, err := b.topicName(topic)
	if err != nil {
		return err
	}
	stretches, err := b.extent(ctx, name)
	if err != nil {
		return missingIsEmpty(err)
	}
	states, err := b.removedLetters(ctx, name, stretches)
	if err != nil {
		return err
	}
	from := map[int32]int64{}
	for number, state := range states {
		from[number] = state.first
	}
	var since int
	err = b.readLog(ctx, name, drop(stretches, from), func(r *kgo.Record) error {
		state := states[r.Partition]
		state.meet(r.Offset)
		if state.has(r.Offset) {
			return nil
		}
		remove, err := visit(b.browsed(ctx, topic, r))
		if err != nil {
			return visitError{err}
		}
		if remove {
			state.add(r.Offset)
			since++
		} else {
			state.kept[r.Offset] = true
		}
		if since >= 100 {
			since = 0
			return b.commitLetters(ctx, name, states)
		}
		return nil
	}, func(number int32) { states[number].complete = true })
	// Also after an error: what was removed, was.
	commit := b.commitLetters(context.WithoutCancel(ctx), name, states)
	var own visitError
	if errors.As(err, &own) {
		err = own.error
	}
	return errors.Join(err, commit)
}

type visitError struct{ error }

// letterState is which letters of a partition are gone.
type letterState struct {
	first, end int64 // offsets below first are gone; end is where the call stops
	next       int64 // what this call has met lies below
	gone       map[int64]bool
	kept       map[int64]bool // met by this call, and left
	complete   bool           // every letter up to end was met
	dirty      bool
}

func (s *letterState) has(offset int64) bool { return offset < s.first || s.gone[offset] }

// meet notes that the next record is at an offset. What it passes over are no letters but
// markers of transactions, or records of aborted ones. They count as gone, or letters that
// each came in a transaction of its own would be as many ranges.
func (s *letterState) meet(offset int64) {
	for ; s.next < offset; s.next++ {
		s.gone[s.next] = true
	}
	s.next = offset + 1
}

func (s *letterState) add(offset int64) {
	s.gone[offset] = true
	s.dirty = true
}

// settle moves first to the oldest letter that was kept. Offsets in between that
// are neither gone nor kept are markers of transactions, or records of aborted
// ones; that is known only when the partition was read to its end.
func (s *letterState) settle() {
	if s.complete {
		first := s.end
		for offset := range s.kept {
			first = min(first, offset)
		}
		s.dirty = s.dirty || first > s.first
		s.first = max(s.first, first)
	}
	for offset := range s.gone {
		if offset < s.first {
			delete(s.gone, offset)
		}
	}
}

// join takes in what other calls have noted since this one began, or its commit would bring
// back the letters that they have removed. Two commits at the very same time still can.
func (s *letterState) join(noted *letterState) {
	s.first = max(s.first, noted.first)
	maps.Copy(s.gone, noted.gone)
	maps.DeleteFunc(s.kept, func(offset int64, _ bool) bool { return noted.has(offset) })
}

// ranges writes offsets as "5-9,12".
func (s *letterState) ranges() string {
	var text strings.Builder
	offsets := slices.Sorted(maps.Keys(s.gone))
	for i := 0; i < len(offsets); {
		j := i
		for j+1 < len(offsets) && offsets[j+1] == offsets[j]+1 {
			j++
		}
		if text.Len() > 0 {
			text.WriteByte(',')
		}
		text.WriteString(strconv.FormatInt(offsets[i], 10))
		if j > i {
			text.WriteString("-" + strconv.FormatInt(offsets[j], 10))
		}
		i = j + 1
	}
	return text.String()
}

func parseRanges(text string, gone map[int64]bool) error {
	if text == "" {
		return nil
	}
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.ParseInt(from, 10, 64)
		last, errLast := strconv.ParseInt(to, 10, 64)
		if err = errors.Join(err, errLast); err != nil {
			return err
		}
		for offset := first; offset <= last; offset++ {
			gone[offset] = true
		}
	}
	return nil
}

func (b *Broker) removedLetters(ctx context.Context, name string, stretches map[int32]stretch) (map[int32]*letterState, error) {
	committed, err := b.admin.FetchOffsets(ctx, lettersGroup)
	if err != nil {
		return nil, fmt.Errorf("look up removed letters of %q: %w", name, err)
	}
	states := map[int32]*letterState{}
	for number, s := range stretches {
		state := &letterState{first: s.from, end: s.to, gone: map[int64]bool{}, kept: map[int64]bool{}}
		if offset, found := committed.Lookup(name, number); found && offset.At >= 0 {
			// A topic that was made anew begins anew: its offsets are below the old ones.
			if offset.At <= s.to {
				state.first = max(state.first, offset.At)
			}
			if err := parseRanges(offset.Metadata, state.gone); err != nil {
				return nil, fmt.Errorf("look up removed letters of %q: the commit of group %s is not Hapax's: %w", name, lettersGroup, err)
			}
			maps.DeleteFunc(state.gone, func(offset int64, _ bool) bool { return offset >= s.to })
		}
		state.next = state.first
		states[number] = state
	}
	return states, nil
}

func (b *Broker) commitLetters(ctx context.Context, name string, states map[int32]*letterState) error {
	changed := map[int32]*letterState{}
	for number, state := range states {
		if state.settle(); state.dirty {
			changed[number] = state
		}
	}
	if len(changed) == 0 {
		return nil
	}
	stretches, err := b.extent(ctx, name)
	if err != nil {
		return fmt.Errorf("note removed letters of %q: %w", name, err)
	}
	noted, err := b.removedLetters(ctx, name, stretches)
	if err != nil {
		return err
	}
	offsets := kadm.Offsets{}
	for number, state := range changed {
		if now := noted[number]; now != nil {
			state.join(now)
			state.settle()
		}
		metadata := state.ranges()
		if len(metadata) > maxRemoved {
			return fmt.Errorf("note removed letters of %s/%d: they lie too scattered for Kafka to note which: remove the oldest letters first, or all of them", name, number)
		}
		offsets.Add(kadm.Offset{Topic: name, Partition: number, At: state.first, LeaderEpoch: -1, Metadata: metadata})
	}
	committed, err := b.admin.CommitOffsets(ctx, lettersGroup, offsets)
	if err == nil {
		err = committed.Error()
	}
	if err != nil {
		return fmt.Errorf("note removed letters of %q: %w", name, err)
	}
	for number := range offsets[name] { // not before: the next commit would leave out what failed
		states[number].dirty = false
	}
	// Committed offsets of a group without members are forgotten after a week by
	// default, while the letters may be kept longer. Where the oldest are
	// removed, they are deleted for good; a user who may not delete keeps the note.
	if deleted, err := b.admin.DeleteRecords(ctx, offsets); err != nil || deleted.Error() != nil {
		b.config.Logger.Debug("delete removed letters", "topic", name, "error", errors.Join(err, deleted.Error()))
	}
	return nil
}
