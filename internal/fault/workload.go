package fault

import (
	"fmt"
	"iter"
	"math/rand/v2"
)

// Event is one event of a workload. Equal events are equal byte by byte when
// encoded, so the copies a producer sends are true duplicates.
type Event struct {
	// ID is unique in the run, and differs between seeds.
	ID string `json:"id"`
	// Key is what the event is ordered by, and Seq its place among the events
	// of that key, from 1.
	Key string `json:"key"`
	Seq int64  `json:"seq"`
	// Pad is printable filler.
	Pad string `json:"pad,omitempty"`
}

// Send is one sending of an event.
type Send struct {
	Event
	// Copy is 0 for the first sending, 1 for the producer's repetition. Put it
	// into the message's metadata: it tells a producer's copy from a redelivery.
	Copy int
}

// Workload draws events and the order of their sends. Equal workloads are equal
// on every machine.
type Workload struct {
	Seed uint64
	// Events is the number of unique events.
	Events int
	// Keys is the number of keys. Default 64.
	Keys int
	// Pad is the length of each event's filler, in bytes.
	Pad int
	// Duplicates is the fraction of events that the producer sends twice: half
	// of them at once, half up to Window events later.
	Duplicates float64
	// Window is how many events later a repetition comes at most. Default 100.
	Window int
}

// Sends yields every send in the producer's order.
//
// A producer that retries a failed send must do so before it sends the next
// event of the same key: otherwise it breaks the key's order by itself.
func (w Workload) Sends() iter.Seq[Send] {
	return func(yield func(Send) bool) {
		window := w.Window
		if window <= 0 {
			window = 100
		}
		random := rand.New(rand.NewPCG(w.Seed, 2))
		later := map[int][]Event{} // repetitions, by the event they follow
		index := 0
		for event := range w.All() {
			if !yield(Send{Event: event}) {
				return
			}
			// Drawn for every event, so that the fraction does not move the rest.
			repeat, atOnce, delay := random.Float64() < w.Duplicates, random.Float64() < 0.5, 1+random.IntN(window)
			switch {
			case repeat && atOnce:
				later[index] = append(later[index], event)
			case repeat:
				last := min(index+delay, w.Events-1)
				later[last] = append(later[last], event)
			}
			for _, due := range later[index] {
				if !yield(Send{Event: due, Copy: 1}) {
					return
				}
			}
			delete(later, index)
			index++
		}
	}
}

// All yields every unique event in the order of first sending.
func (w Workload) All() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		keys := w.Keys
		if keys <= 0 {
			keys = 64
		}
		random := rand.New(rand.NewPCG(w.Seed, 1))
		seqs := make([]int64, keys)
		for i := range w.Events {
			key := random.IntN(keys)
			seqs[key]++
			event := Event{
				ID:  fmt.Sprintf("%x-%d", w.Seed, i),
				Key: fmt.Sprintf("key-%d", key),
				Seq: seqs[key],
				Pad: pad(random, w.Pad),
			}
			if !yield(event) {
				return
			}
		}
	}
}

func pad(random *rand.Rand, size int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz012345"
	text := make([]byte, size)
	for i := 0; i < size; i += 12 { // 12 letters of 5 bits from each number
		bits := random.Uint64()
		for j := i; j < min(i+12, size); j++ {
			text[j] = letters[bits&31]
			bits >>= 5
		}
	}
	return string(text)
}
