package redis

import (
	"runtime"
	"sync"
)

// batcher joins what concurrent callers bring into batches: while one is being
// run the next gathers. There is no timer: a lone item leaves at once.
type batcher[T any] struct {
	run   func([]T)
	limit int

	mu      sync.Mutex
	queue   []T
	running bool
}

func (b *batcher[T]) add(item T) {
	b.mu.Lock()
	b.queue = append(b.queue, item)
	start := !b.running
	b.running = true
	b.mu.Unlock()
	if start {
		go b.work()
	}
}

// work runs batches until the queue is empty. Whether it is, and that it stops, is
// decided under one lock.
func (b *batcher[T]) work() {
	for {
		b.gather()
		b.mu.Lock()
		batch := b.queue
		if len(batch) > b.limit {
			batch, b.queue = batch[:b.limit:b.limit], batch[b.limit:]
		} else {
			b.queue = nil
		}
		b.running = len(batch) > 0
		b.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		b.run(batch)
	}
}

// gather lets the callers run that are about to add, for as long as there are any:
// a round trip costs as much as many items do. It waits for nobody who is not ready
// to run, so a lone item still leaves at once.
func (b *batcher[T]) gather() {
	for before := -1; ; {
		b.mu.Lock()
		now := len(b.queue)
		b.mu.Unlock()
		if now == before || now >= b.limit {
			return
		}
		before = now
		runtime.Gosched()
	}
}
