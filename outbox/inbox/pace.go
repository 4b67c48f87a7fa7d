package inbox

import (
	"sync/atomic"
	"time"
)

// pace is how long turns of one handler take, as a moving average, to keep slow
// handlers out of the transactions that others share.
type pace struct{ average atomic.Int64 }

// note takes one turn's time in. While rows are fought for, a long time is none: to
// wait is not to be slow. A short one counts, or a handler that was taken for slow
// would stay so. Two turns at the same moment may lose one of them.
func (p *pace) note(took time.Duration, crowded bool) {
	if p == nil {
		return
	}
	before := p.average.Load()
	if crowded && int64(took) > before {
		return
	}
	p.average.Store(before + (int64(took)-before)/8)
}

// slow reports whether turns take longer than limit.
func (p *pace) slow(limit time.Duration) bool {
	return p != nil && time.Duration(p.average.Load()) > limit
}
