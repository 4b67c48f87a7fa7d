package bench

import (
	"runtime"
	"time"
)

// Meter measures time and allocations of the part of a round that counts.
type Meter struct {
	started time.Time
	mallocs uint64

	// Prepared is the time from NewMeter to Start.
	Prepared time.Duration
	// Elapsed is the time from Start to Stop, and Mallocs the allocations of
	// the whole process between them.
	Elapsed time.Duration
	Mallocs uint64
}

// NewMeter returns a meter for one round.
func NewMeter() *Meter { return &Meter{started: time.Now()} }

// Start collects the garbage of the preparations and starts the clock.
func (m *Meter) Start() {
	m.Prepared = time.Since(m.started)
	runtime.GC()
	m.mallocs = mallocs()
	m.started = time.Now()
}

// Stop stops the clock.
func (m *Meter) Stop() {
	m.Elapsed = time.Since(m.started)
	m.Mallocs = mallocs() - m.mallocs
}

func mallocs() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.Mallocs
}
