package bench

import (
	"strconv"
	"strings"
)

// Load is the input of one round.
type Load struct {
	// Round makes event IDs differ between rounds.
	Round int
	// Messages is how many different ones there are.
	Messages int
	// Copies of the first messages follow the last.
	Copies int

	pace *pace // nil: as fast as possible
}

// Deliveries is the number of messages sent.
func (l Load) Deliveries() int { return l.Messages + l.Copies }

// id is the event ID of delivery i, the same for a message and its copy.
func (l Load) id(i int) string {
	if i >= l.Messages {
		i -= l.Messages
	}
	return strconv.Itoa(l.Round) + "-" + strconv.Itoa(i)
}

// indexOf is the i that id was made of.
func indexOf(id string) int {
	_, digits, _ := strings.Cut(id, "-")
	i, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return i
}
