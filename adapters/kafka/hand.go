package kafka

import "github.com/ThreeDotsLabs/watermill/message"

// forward passes messages on from the flow to the reader. What is of a partition
// that is leaving goes back instead, and ends in the flow.
func (c *consumer) forward() {
	for msg := range c.flow.Messages() {
		if d := deliveryFrom(msg.Context()); !c.hand(d, msg) {
			msg.Nack()
		}
	}
}

func (c *consumer) hand(d *delivery, msg *message.Message) bool {
	p := d.partition
	if !p.enter(d.record.Offset) {
		return false
	}
	if !d.stage.CompareAndSwap(waiting, sent) { // given up by the flow meanwhile
		p.exit()
		return false
	}
	leaving := p.leaving
	for {
		select {
		case c.out <- msg:
			p.sent(d.record.Offset)
			return true
		case <-leaving:
			if !p.mayStay(d.record.Offset) {
				return false
			}
			leaving = nil
		case <-p.ctx.Done():
			return false
		case <-c.cut:
			return false
		}
	}
}
