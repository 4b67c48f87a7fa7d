package marks

import "time"

// SetSkew moves the clock by which a Peek judges marks.
func (p *Peek) SetSkew(skew time.Duration) { p.skew = skew }
