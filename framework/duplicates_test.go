package framework

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/framework/config"
)

// The log is bounded whatever comes: in single duplicates, in event types an hour,
// in hours.
func TestDuplicateLogIsBounded(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 30, 0, 0, time.UTC)
	log := newDuplicateLog(now)
	add := func(id, kind string, at time.Time) {
		event := &dedup.Event{Message: message.NewMessage("", nil)}
		event.EventID, event.Scope.Handler = id, "ship"
		event.Message.Metadata.Set("ce_type", kind)
		log.add(event, "orders", Redelivery, at)
	}
	for hour := range 2 * duplicateHours {
		for i := range 10 {
			add(fmt.Sprintf("%d-%d", hour, i), "order.placed", now.Add(time.Duration(hour)*time.Hour))
		}
	}
	last := now.Add((2*duplicateHours - 1) * time.Hour)
	require.LessOrEqual(t, len(log.hours), duplicateHours)
	for i := range 2 * duplicateKinds {
		add("x", fmt.Sprint("type ", i), last)
	}
	require.Len(t, log.recent, recentDuplicates)

	report := log.report(24, 5, last)
	require.Len(t, report.Recent, 5)
	require.Equal(t, fmt.Sprint("type ", 2*duplicateKinds-1), report.Recent[0].Type, "newest first")
	total, inLastHour, hours := 0, 0, map[time.Time]bool{}
	for _, count := range report.Hours {
		hours[count.Hour] = true
		total += count.Count
		if count.Hour.Equal(last.Truncate(time.Hour)) {
			inLastHour++
		}
	}
	require.Len(t, hours, 24)
	require.Equal(t, 240+2*duplicateKinds, total, "none is forgotten, only its type")
	require.Equal(t, duplicateKinds+1, inLastHour, "and the type \"other\"")
	require.Empty(t, log.report(24, 5, last.Add(25*time.Hour)).Recent)
}

// A number that is none would be taken for the default: a report of another time than
// was asked for, or with less in it.
func TestDuplicatesQuery(t *testing.T) {
	service := &Service{config: &config.Config{}, duplicates: newDuplicateLog(time.Now())}
	for query, says := range map[string]string{
		"":                   "",
		"?hours=6&limit=0":   "",
		"?hours=x":           `hours is \"x\", expected a whole number, 0 or more`,
		"?hours=":            `hours is \"\", expected`,
		"?hours=1.5":         `hours is \"1.5\", expected`,
		"?hours=-1":          `hours is \"-1\", expected`,
		"?limit=all&hours=1": `limit is \"all\", expected`,
	} {
		answered := httptest.NewRecorder()
		service.serveDuplicates(answered, httptest.NewRequest(http.MethodGet, "/duplicates"+query, nil))
		if says == "" {
			require.Equal(t, http.StatusOK, answered.Code, query)
			continue
		}
		require.Equal(t, http.StatusBadRequest, answered.Code, query)
		require.Contains(t, answered.Body.String(), says, query)
	}
}
