package inbox

import (
	"sync/atomic"
	"time"
)

// pace is how long turns of one handler take, as a moving average, to keep slow
// handlers out of the transactions that others share.
type pace struct{ average atomic.Int64 }

// note takes one turn's time in. Two at the same moment may lose one of them.
func (p *pace) note(took time.Duration) {
	if p != nil {
		before := p.average.Load()
		p.average.Store(before + (int64(took)-before)/8)
	}
}

// slow reports whether turns take longer than limit.
func (p *pace) slow(limit time.Duration) bool {
	return p != nil && time.Duration(p.average.Load()) > limit
}
