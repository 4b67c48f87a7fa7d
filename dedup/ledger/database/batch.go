package database

import (
	"bytes"
	"slices"

	"github.com/hapax-go/hapax/dedup"
)

// row is a lease or a mark as stored; zero: there is none.
type row struct {
	found   bool
	marked  bool
	digest  dedup.Digest
	token   uint64
	expires int64
}

func (r row) leasedBy(entry *dedup.Entry) bool {
	return r.found && !r.marked && r.token == entry.Token
}

// rows are what is stored of an ID: its row in the hot table in use, and its
// mark, wherever that is. held: its lease is one of the batch's.
type rows struct {
	hot, mark row
	held      bool
}

// marked reports whether the ID has a mark whose window is not over.
func (r rows) marked(now int64) bool { return r.mark.found && r.mark.expires > now }

// verdict is what a claim of the entry gets.
func (r rows) verdict(entry *dedup.Entry, now int64) dedup.Verdict {
	leased := r.hot.found && !r.hot.marked && r.hot.expires > now
	switch {
	case r.marked(now) && r.mark.digest.Matches(entry.Digest):
		return dedup.Duplicate
	case r.marked(now), leased && !r.hot.digest.Matches(entry.Digest):
		return dedup.Conflict
	case leased && r.hot.token != entry.Token:
		return dedup.InFlight
	}
	return dedup.Fresh
}

// batch is the entries of a call with what is stored of their IDs.
type batch struct {
	entries []*dedup.Entry
	ids     []dedup.ID // each once, in order: all callers lock rows in this order
	index   map[dedup.ID]int
	stored  []rows
}

func newBatch(entries []*dedup.Entry) *batch {
	b := &batch{entries: entries, ids: make([]dedup.ID, len(entries)), index: make(map[dedup.ID]int, len(entries))}
	for i, entry := range entries {
		b.ids[i] = entry.ID
	}
	slices.SortFunc(b.ids, func(x, y dedup.ID) int { return bytes.Compare(x[:], y[:]) })
	b.ids = slices.Compact(b.ids)
	for i, id := range b.ids {
		b.index[id] = i
	}
	b.stored = make([]rows, len(b.ids))
	return b
}

func (b *batch) of(entry *dedup.Entry) *rows { return &b.stored[b.index[entry.ID]] }

// found notes a row that was read. A mark that is newer replaces an older one: an
// ID may be marked again once its window is over.
func (b *batch) found(id dedup.ID, stored row, hot bool) {
	i, asked := b.index[id]
	if !asked {
		return
	}
	if hot {
		b.stored[i].hot = stored
	}
	if stored.marked && (!b.stored[i].mark.found || stored.expires > b.stored[i].mark.expires) {
		b.stored[i].mark = stored
	}
}

// decide sets the verdict of each entry, and returns those that are fresh in the
// order of their IDs. Later entries of an ID are in flight, or in conflict, when
// the first is fresh.
func (b *batch) decide(now int64) []*dedup.Entry {
	first := make([]*dedup.Entry, len(b.ids))
	for _, entry := range b.entries {
		i := b.index[entry.ID]
		entry.Verdict = b.stored[i].verdict(entry, now)
		if earlier := first[i]; earlier != nil {
			entry.Verdict = dedup.InFlight
			if !earlier.Digest.Matches(entry.Digest) {
				entry.Verdict = dedup.Conflict
			}
		} else if entry.Verdict == dedup.Fresh {
			first[i] = entry
		}
	}
	return slices.DeleteFunc(first, func(entry *dedup.Entry) bool { return entry == nil })
}

// held returns the leases that the entries' tokens hold, to last until expires.
func (b *batch) held(expires int64) (held []change) {
	for _, entry := range b.entries {
		if stored := b.of(entry); stored.hot.leasedBy(entry) && !stored.held {
			stored.held = true
			held = append(held, change{id: entry.ID, expires: expires, was: stored.hot})
		}
	}
	slices.SortFunc(held, func(x, y change) int { return bytes.Compare(x.id[:], y.id[:]) })
	return held
}
