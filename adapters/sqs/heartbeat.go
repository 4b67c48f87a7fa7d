package sqs

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// heartbeat keeps everything hidden that is held: what is being handled, what waits
// for its turn, what waits for its redelivery or its delete. It goes on while the
// consumer drains.
func (c *consumer) heartbeat() {
	interval := c.broker.config.VisibilityTimeout / 3
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-c.drained:
			return
		case <-ticker.C:
		}
		if !c.broker.frozen.Load() {
			c.extend(interval)
		}
	}
}

// extend renews what was not renewed for an interval, in batches, a few at a time.
func (c *consumer) extend(interval time.Duration) {
	var due []*delivery
	c.mu.Lock()
	for _, d := range c.held {
		if d.due(interval) {
			due = append(due, d)
		}
	}
	c.mu.Unlock()
	limit := make(chan struct{}, c.broker.config.Workers)
	var beats sync.WaitGroup
	for batch := range slices.Chunk(due, batchLimit) {
		limit <- struct{}{}
		beats.Go(func() {
			c.beat(batch)
			<-limit
		})
	}
	beats.Wait()
}

// due reports whether the message is to be renewed now. A message that cannot be is
// lost.
func (d *delivery) due(interval time.Duration) bool {
	d.mu.Lock()
	is := !d.returning && d.lost == nil && time.Since(d.extended) >= interval*9/10
	d.mu.Unlock()
	if is && time.Since(d.since) >= maxVisibility-2*time.Second {
		d.lose(errCeiling)
		return false
	}
	return is
}

// beat renews a batch. Those that SQS refuses are lost; those it did not answer for
// are tried with the next beat, until their time is up.
func (c *consumer) beat(batch []*delivery) {
	batch = slices.DeleteFunc(batch, func(d *delivery) bool { return !d.beginBeat() })
	if len(batch) == 0 {
		return
	}
	defer func() {
		for _, d := range batch {
			d.endBeat()
		}
	}()
	asked := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), min(c.broker.config.Timeout, c.broker.config.VisibilityTimeout))
	defer cancel()
	hidden := func(d *delivery) time.Duration {
		// SQS allows 12 hours in all.
		left := d.since.Add(maxVisibility - time.Second).Sub(asked)
		return max(min(c.broker.config.VisibilityTimeout, left).Truncate(time.Second), time.Second)
	}
	failures, err := c.queue.setVisibility(ctx, batch, hidden)
	if err != nil {
		c.broker.config.Logger.Warn("renew visibility", "queue", c.queue.name, "messages", len(batch), "error", err)
	}
	failed := make(map[string]types.BatchResultErrorEntry, len(failures))
	for _, failure := range failures {
		failed[*failure.Id] = failure
	}
	for i, d := range batch {
		failure, isFailed := failed[entryIDs[i]]
		passes, _ := entryError(failure)
		switch {
		case err == nil && !isFailed:
			d.renewed(asked, hidden(d))
		case d.renewedSince(asked):
			// Received again meanwhile: the receipt that was refused is an old one.
		case isFailed && !passes:
			d.lose(errInvisible)
		case d.expired():
			d.lose(errInvisible)
		}
	}
}

// beginBeat reports whether the message may still be renewed. Until endBeat it is not given
// back: SQS could answer the return first, and the renewal would hide the message again.
func (d *delivery) beginBeat() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.beating = !d.returning
	return d.beating
}

func (d *delivery) endBeat() {
	d.mu.Lock()
	d.beating = false
	returning := d.returning
	d.mu.Unlock()
	if returning {
		d.consumer.queue.returns.add(d)
	}
}

func (d *delivery) renewed(at time.Time, visibility time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.extended, d.until = at, at.Add(visibility)
}

func (d *delivery) renewedSince(at time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.extended.After(at)
}

func (d *delivery) expired() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().After(d.until)
}
