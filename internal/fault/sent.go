package fault

import (
	"slices"
	"sync"
)

// SendOutcome is what became of a send, as far as the producer can know it.
type SendOutcome string

const (
	// SendOK: the broker confirmed it. The event must take effect once.
	SendOK SendOutcome = "ok"
	// SendFailed: it certainly did not reach the broker. No effect.
	SendFailed SendOutcome = "failed"
	// SendUnknown: no answer came, or an error that leaves it open. One effect
	// or none.
	SendUnknown SendOutcome = "unknown"
)

// Expected is what is known of an event before its effects are counted.
type Expected struct {
	ID      string      `json:"id"`
	Key     string      `json:"key"`
	Seq     int64       `json:"seq"`
	Outcome SendOutcome `json:"outcome"`
}

// Sent is the producer's ledger of sends. The zero value is ready; it is safe
// for concurrent use.
type Sent struct {
	mu     sync.Mutex
	index  map[string]int
	events []Expected
	sends  int64
}

// Record notes the outcome of one send. Over an event's sends the best known
// outcome counts: one confirmed send makes it ok, and one open send among
// failed ones makes it unknown.
func (s *Sent) Record(event Event, outcome SendOutcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sends++
	if s.index == nil {
		s.index = map[string]int{}
	}
	at, known := s.index[event.ID]
	if !known {
		s.index[event.ID] = len(s.events)
		s.events = append(s.events, Expected{ID: event.ID, Key: event.Key, Seq: event.Seq, Outcome: outcome})
		return
	}
	before := &s.events[at].Outcome
	if outcome == SendOK || *before == SendFailed {
		*before = outcome
	}
}

// Sends returns the number of sends recorded.
func (s *Sent) Sends() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sends
}

// Expected returns every event sent, in the order of first sending.
func (s *Sent) Expected() []Expected {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}
