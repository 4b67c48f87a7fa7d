package ledgertest

import (
	"slices"
	"time"

	"github.com/hapax-go/hapax/dedup"
)

// model is the contract of dedup.Ledger in its shortest form: what each entry's
// outcome must be. The property check compares stores to it.
type model struct {
	now    time.Duration
	window time.Duration
	states map[dedup.ID]state
}

type state struct {
	marked bool
	digest dedup.Digest
	token  uint64
	until  time.Duration
}

// live returns the state of an ID whose mark, if it has one, has not expired.
func (m *model) live(id dedup.ID) (state, bool) {
	state, found := m.states[id]
	return state, found && !(state.marked && state.until <= m.now)
}

func (m *model) claim(lease time.Duration, entries []*dedup.Entry) []dedup.Verdict {
	var verdicts []dedup.Verdict
	for i, entry := range entries {
		repeated := slices.ContainsFunc(entries[:i], func(earlier *dedup.Entry) bool { return earlier.ID == entry.ID })
		verdict := m.claimOne(entry, repeated)
		if verdict == dedup.Fresh {
			m.states[entry.ID] = state{digest: entry.Digest, token: entry.Token, until: m.now + lease}
		}
		verdicts = append(verdicts, verdict)
	}
	return verdicts
}

func (m *model) claimOne(entry *dedup.Entry, repeated bool) dedup.Verdict {
	state, found := m.live(entry.ID)
	switch {
	case !found, !state.marked && state.until <= m.now:
		return dedup.Fresh
	case !state.digest.Matches(entry.Digest):
		return dedup.Conflict
	case state.marked:
		return dedup.Duplicate
	case state.token == entry.Token && !repeated:
		return dedup.Fresh
	default:
		return dedup.InFlight
	}
}

// holds tells whether the entry's token holds a lease, run out or not.
func (m *model) holds(entry *dedup.Entry) bool {
	state, found := m.live(entry.ID)
	return found && !state.marked && state.token == entry.Token
}

func (m *model) renew(lease time.Duration, entry *dedup.Entry) (lost bool) {
	if !m.holds(entry) {
		return true
	}
	state := m.states[entry.ID]
	state.until = m.now + lease
	m.states[entry.ID] = state
	return false
}

func (m *model) complete(entry *dedup.Entry) (lost bool) {
	if m.holds(entry) {
		m.states[entry.ID] = state{marked: true, digest: entry.Digest, token: entry.Token, until: m.now + m.window}
		return false
	}
	state, found := m.live(entry.ID)
	return !found || state.token != entry.Token // a mark of the same token: a retry
}

func (m *model) release(entry *dedup.Entry) {
	if m.holds(entry) {
		delete(m.states, entry.ID)
	}
}
