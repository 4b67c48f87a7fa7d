package inbox

import "slices"

// What a Pool remembers of events that are to come again.

// maxFailed bounds what is remembered of events that do not come again here.
const maxFailed = 10_000

// blame notes that a unit's handler failed while it shared a transaction.
func (p *Pool) blame(u *unit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.failed) >= maxFailed {
		clear(p.failed)
	}
	for _, r := range u.commit().rows {
		p.failed[r.ID] = true
	}
}

// forgive forgets that, and reports whether there was anything. The caller holds mu.
func (p *Pool) forgive(u *unit) (failed bool) {
	if len(p.failed) == 0 {
		return false
	}
	for _, r := range u.commit().rows {
		failed = failed || p.failed[r.ID]
		delete(p.failed, r.ID)
	}
	return failed
}

// idle notes that a unit's transaction stood for too long without a statement.
func (p *Pool) idle(u *unit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.slept) >= maxFailed {
		clear(p.slept)
	}
	for _, r := range u.commit().rows {
		p.slept[r.ID] = true
	}
}

// idled reports whether one has before. Where the process was stopped it has not: then the
// event's copies elsewhere must not become a dead letter.
func (p *Pool) idled(u *unit) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.slept) == 0 {
		return false
	}
	return slices.ContainsFunc(u.commit().rows, func(r row) bool { return p.slept[r.ID] })
}
