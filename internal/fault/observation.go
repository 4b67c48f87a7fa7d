package fault

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Effect is one effect of an event, as found in a store or on a topic.
type Effect struct {
	// ID, Key and Seq are the event's.
	ID  string `json:"id"`
	Key string `json:"key"`
	Seq int64  `json:"seq"`
	// Identity is the event ID that an output itself was published under; "":
	// the reader does not tell.
	Identity string `json:"identity,omitempty"`
	// Consumer is the child that made it, and Position its place in the store:
	// both for reports only.
	Consumer string `json:"consumer,omitempty"`
	Position int64  `json:"position,omitempty"`
}

// Delivery is one start of a handler.
type Delivery struct {
	// ID is the event's.
	ID string `json:"id"`
	// Copy is the producer's copy (Send.Copy) that was delivered.
	Copy int `json:"copy"`
	// Consumer and Attempt are for reports only.
	Consumer string `json:"consumer,omitempty"`
	Attempt  int    `json:"attempt,omitempty"`
}

// Observation is everything the oracle judges by.
type Observation struct {
	// Expected are the events sent; see Sent.
	Expected []Expected
	// Effects are all effects, in the order in which they were committed. They
	// must not have passed anything that drops duplicates.
	Effects []Effect
	// Earlier are effects that a reader saw while the faults went on: each must
	// still be there. Nil: nobody looked.
	Earlier []Effect
	// Outputs are what an independent reader found on the output topic.
	Outputs []Effect
	// ExpectOutputs: there must be an output of each confirmed event, and of each that
	// took effect.
	ExpectOutputs bool
	// OutputsMayRepeat: copies of an output are counted and are no problem as long
	// as all carry one Identity, so that the next consumer's ledger absorbs them.
	OutputsMayRepeat bool
	// Unordered: the scenario promises no order per key.
	Unordered bool
	// Deliveries are all starts of handlers.
	Deliveries []Delivery
	// MayNotRedeliver: the run is fit to be judged although nothing was
	// delivered again; for scenarios whose fault is not about redelivery.
	MayNotRedeliver bool
	// Left is what had not drained at the deadline; see Drain. Nil: nobody
	// looked, which is a problem.
	Left map[string]int64
	// Counts is what happened to the children.
	Counts Counts
}

// Drain waits until everything a broker or store still holds is zero: backlog,
// pending entries, unacknowledged and in flight messages, open transactions.
// left names them. It returns what is not zero when the context ends: an empty
// map when everything drained. An error of left counts only if it is the last
// answer, because a broker that restarts may not answer at once.
func Drain(ctx context.Context, left func(ctx context.Context) (map[string]int64, error)) (map[string]int64, error) {
	var held map[string]int64
	failure := errors.New("no answer in time")
	for {
		answer, err := left(ctx)
		if err == nil || ctx.Err() == nil { // an error of the deadline itself says nothing
			held, failure = notZero(answer), err
		}
		if failure == nil && len(held) == 0 {
			return held, nil
		}
		select {
		case <-ctx.Done():
			if failure != nil {
				return nil, fmt.Errorf("look what has not drained: %w", failure)
			}
			return held, nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func notZero(counts map[string]int64) map[string]int64 {
	left := map[string]int64{}
	for name, count := range counts {
		if count != 0 {
			left[name] = count
		}
	}
	return left
}
