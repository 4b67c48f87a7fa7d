package framework

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hapax-go/hapax/adapters"
	"github.com/hapax-go/hapax/dedup"
)

// Cause is why there was a copy of an event, as far as it is known.
type Cause string

const (
	// ProducerRetry: the message is another one under the same event ID. The
	// producer sent it again, or somebody did on its behalf. Also what remains when
	// nothing else is known.
	ProducerRetry Cause = "producer retry"
	// Redelivery: the broker handed out the same message again, because a consumer
	// died, was slow, or its acknowledgement was lost; or the group was rebalanced.
	Redelivery Cause = "redelivery"
	// RelayResend: an outbox relay published it again, because it could not know
	// whether an earlier attempt had got through.
	RelayResend Cause = "relay resend"
	// OperatorReplay: an operator put it back from the dead letters.
	OperatorReplay Cause = "operator replay"
	// LeaseExpiry: this worker's lease ran out while it was at it, and another took
	// over; what this one did was not committed.
	LeaseExpiry Cause = "lease expiry"
)

var causes = []Cause{ProducerRetry, Redelivery, RelayResend, OperatorReplay, LeaseExpiry}

func (c Cause) label() string { return strings.ReplaceAll(string(c), " ", "_") }

// causeOf tells the cause from what a delivery carries. It is a report and decides
// nothing. Brokers count deliveries of a message since they have it, but Kafka
// counts none: there a copy after a rebalance looks like a producer's.
func causeOf(event *dedup.Event, takenOver bool) Cause {
	meta := event.Message.Metadata
	delivery := adapters.DeliveryFrom(event.Message.Context())
	switch {
	case takenOver:
		return LeaseExpiry
	case meta.Get(dedup.MetaReplayedAt) != "":
		return OperatorReplay
	case delivery != nil && delivery.Attempt > 1:
		return Redelivery
	case meta.Get(dedup.MetaRelayAttempt) != "":
		return RelayResend
	}
	return ProducerRetry
}

// Duplicate is one copy that took no effect.
type Duplicate struct {
	At      time.Time `json:"at"`
	EventID string    `json:"event_id"`
	// Type is the CloudEvents type of the event; without one, its topic.
	Type     string `json:"type"`
	Topic    string `json:"topic"`
	Handler  string `json:"handler"`
	Cause    Cause  `json:"cause"`
	Position string `json:"position,omitempty"`
}

// DuplicateCount counts the copies of an hour.
type DuplicateCount struct {
	Hour    time.Time `json:"hour"` // when it began, UTC
	Type    string    `json:"type"`
	Handler string    `json:"handler"`
	Cause   Cause     `json:"cause"`
	Count   int       `json:"count"`
}

// DuplicateReport is what one instance of a service knows.
type DuplicateReport struct {
	Service string `json:"service"`
	// Since is when the instance began to count: its start.
	Since time.Time `json:"since"`
	// Recent are the last ones, newest first.
	Recent []Duplicate `json:"recent"`
	// Hours are sorted by time, then by type, handler and cause.
	Hours []DuplicateCount `json:"hours"`
}

const (
	// recentDuplicates are remembered singly; older ones only count.
	recentDuplicates = 1000
	// duplicateHours are counted; then Prometheus, which keeps longer, must do.
	duplicateHours = 7 * 24
	// duplicateKinds bounds the counters of an hour: event types come from outside.
	// What is beyond counts under the type "other".
	duplicateKinds = 500
)

// DuplicateLog remembers the duplicates of one instance, in bounded memory. It
// forgets when the process ends.
type DuplicateLog struct {
	began time.Time

	mu     sync.Mutex
	recent []Duplicate // a ring once it is full
	next   int
	hours  map[int64]map[duplicateKind]int // by hour since 1970
}

type duplicateKind struct {
	kind, handler string
	cause         Cause
}

func newDuplicateLog(now time.Time) *DuplicateLog {
	return &DuplicateLog{began: now, hours: map[int64]map[duplicateKind]int{}}
}

func (l *DuplicateLog) add(event *dedup.Event, topic string, cause Cause, now time.Time) {
	d := Duplicate{At: now.UTC(), EventID: event.EventID, Type: event.Message.Metadata.Get("ce_type"), Topic: topic, Handler: event.Scope.Handler, Cause: cause}
	if d.Type == "" {
		d.Type = topic
	}
	if delivery := adapters.DeliveryFrom(event.Message.Context()); delivery != nil {
		d.Position = delivery.Position
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.recent) < recentDuplicates {
		l.recent = append(l.recent, d)
	} else {
		l.recent[l.next] = d
		l.next = (l.next + 1) % recentDuplicates
	}
	hour := hourOf(now)
	counts := l.hours[hour]
	if counts == nil {
		counts = map[duplicateKind]int{}
		l.hours[hour] = counts
		maps.DeleteFunc(l.hours, func(old int64, _ map[duplicateKind]int) bool { return old <= hour-duplicateHours })
	}
	kind := duplicateKind{d.Type, d.Handler, cause}
	if _, known := counts[kind]; !known && len(counts) >= duplicateKinds {
		kind.kind = "other"
	}
	counts[kind]++
}

func hourOf(at time.Time) int64 { return at.Unix() / 3600 }

// report tells the last hours, the present one included, and the newest duplicates
// in them.
func (l *DuplicateLog) report(hours, limit int, now time.Time) DuplicateReport {
	l.mu.Lock()
	defer l.mu.Unlock()
	report := DuplicateReport{Since: l.began.UTC(), Recent: []Duplicate{}, Hours: []DuplicateCount{}}
	oldest := hourOf(now) - int64(hours) + 1
	for i := range l.recent {
		d := l.recent[(l.next+len(l.recent)-1-i)%len(l.recent)]
		if len(report.Recent) == limit || hourOf(d.At) < oldest {
			break
		}
		report.Recent = append(report.Recent, d)
	}
	for hour, counts := range l.hours {
		if hour < oldest {
			continue
		}
		for kind, count := range counts {
			report.Hours = append(report.Hours, DuplicateCount{time.Unix(hour*3600, 0).UTC(), kind.kind, kind.handler, kind.cause, count})
		}
	}
	slices.SortFunc(report.Hours, func(a, b DuplicateCount) int {
		return cmp.Or(a.Hour.Compare(b.Hour), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Handler, b.Handler), cmp.Compare(a.Cause, b.Cause))
	})
	return report
}
