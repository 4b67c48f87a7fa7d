package rabbitmq

import "sync"

// What became of a delivery tag.
const (
	tagOpen   byte = iota // handed out
	tagDone               // to be acknowledged
	tagSingle             // acknowledged by itself
)

// acks finds out which delivery tags of one channel to acknowledge. Tags count
// from 1 without gaps; they are done in any order. One frame acknowledges
// everything up to the first that is not done. When that one is slow, those
// behind it are acknowledged singly: otherwise they would fill the prefetch
// window, and the server would send nothing more.
//
// A multiple acknowledgement must name a tag that the server still waits for, or
// it closes the channel. So the singles are remembered until passed.
type acks struct {
	wake chan struct{} // something is done

	mu   sync.Mutex
	base uint64 // tag of tags[0]
	tags []byte
	// done counts tagDone entries in tags.
	done int
}

func newAcks() *acks { return &acks{wake: make(chan struct{}, 1), base: 1} }

// begin takes note of a tag that was delivered.
func (a *acks) begin(tag uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.base+uint64(len(a.tags)) <= tag {
		a.tags = append(a.tags, tagOpen)
	}
}

// finish says that a tag may be acknowledged.
func (a *acks) finish(tag uint64) {
	a.mu.Lock()
	if tag >= a.base && a.tags[tag-a.base] == tagOpen {
		a.tags[tag-a.base] = tagDone
		a.done++
	}
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// ready is the number of tags that wait to be acknowledged.
func (a *acks) ready() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.done
}

// head is the first tag that is not done: while it stays, those behind it wait.
func (a *acks) head() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.base
}

// take returns the tag up to which to acknowledge all, or zero, and with held
// the tags behind it to acknowledge singly. Without held, waiting says how many
// those are. What is returned counts as acknowledged.
func (a *acks) take(held bool) (upTo uint64, singles []uint64, waiting int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	passed := 0
	for passed < len(a.tags) && a.tags[passed] != tagOpen {
		if a.tags[passed] == tagDone {
			upTo = a.base + uint64(passed)
			a.done--
		}
		passed++
	}
	a.base += uint64(passed)
	a.tags = a.tags[passed:] // append moves what is left when the room is used up
	if !held {
		return upTo, nil, a.done
	}
	for i, state := range a.tags {
		if state == tagDone {
			singles = append(singles, a.base+uint64(i))
			a.tags[i] = tagSingle
			a.done--
		}
	}
	return upTo, singles, 0
}
