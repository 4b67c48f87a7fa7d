package sqs

import (
	"slices"
	"sync"
	"time"
)

// batchLimit is the most entries that SQS takes in one request.
const batchLimit = 10

// linger is how long a batch that is not full waits for others. A request to Amazon
// takes five times as long and more.
const linger = 2 * time.Millisecond

// batcher joins what concurrent callers bring into batches. While requests are under
// way the next batch gathers; further requests start beside them only for full
// batches. A batch that is not full waits a moment before it leaves, for what was
// received together is done with at nearly the same time: a request costs many times
// that moment, and each of ten that are not shared costs a whole one.
type batcher[T comparable] struct {
	// linger is that moment; 0: none.
	linger time.Duration
	// run deals with a batch for good, retries included.
	run func([]T)
	// parallel bounds the batches that run at once.
	parallel int
	// weigh and capacity bound a batch's weight; nil: no bound.
	weigh    func(T) int
	capacity int
	// exclusive names what no two items may share while one of them is under
	// way; nil, or "" for an item: nothing.
	exclusive func(T) string

	mu      sync.Mutex
	queue   []T
	waiting map[string]*line[T] // by name
	running int
	lingers bool // the moment has begun
}

// line is what has one name: an item that is queued or running, and those behind it.
type line[T comparable] struct {
	first  T
	behind []T
}

func (b *batcher[T]) add(items ...T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, item := range items {
		if name := b.name(item); name != "" {
			if line := b.waiting[name]; line != nil {
				line.behind = append(line.behind, item)
				continue
			}
			if b.waiting == nil {
				b.waiting = map[string]*line[T]{}
			}
			b.waiting[name] = &line[T]{first: item}
		}
		b.queue = append(b.queue, item)
	}
	b.start(false)
}

func (b *batcher[T]) name(item T) string {
	if b.exclusive == nil {
		return ""
	}
	return b.exclusive(item)
}

// leave ends the moment: what has gathered goes.
func (b *batcher[T]) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lingers = false
	b.start(true)
}

// start begins as many batches as are due; over says that the moment is. b.mu is held.
func (b *batcher[T]) start(over bool) {
	for b.running < b.parallel && len(b.queue) > 0 {
		n, full := b.fit()
		switch {
		case full:
		case b.running > 0:
			return
		case b.linger > 0 && !over:
			if !b.lingers {
				b.lingers = true
				time.AfterFunc(b.linger, b.leave)
			}
			return
		}
		batch := b.queue[:n:n]
		b.queue = b.queue[n:]
		b.running++
		go b.work(batch)
	}
}

// fit returns how many of the queue make the next batch, and whether no further
// one could join it.
func (b *batcher[T]) fit() (n int, full bool) {
	if b.weigh == nil {
		return min(len(b.queue), batchLimit), len(b.queue) >= batchLimit
	}
	for weight := 0; n < min(len(b.queue), batchLimit); n++ {
		weight += b.weigh(b.queue[n])
		if weight > b.capacity && n > 0 {
			return n, true
		}
	}
	return n, n == batchLimit
}

func (b *batcher[T]) work(batch []T) {
	b.run(batch)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running--
	b.pass(batch)
	b.start(false)
}

// pass queues what is behind items that are done. b.mu is held.
func (b *batcher[T]) pass(done []T) {
	for _, item := range done {
		name := b.name(item)
		line := b.waiting[name]
		switch {
		case line == nil || line.first != item: // it has passed already
		case len(line.behind) == 0:
			delete(b.waiting, name)
		default:
			line.first, line.behind = line.behind[0], line.behind[1:]
			b.queue = append(b.queue, line.first)
		}
	}
}

// pause waits before what is left of a batch is tried again. When the batch was answered,
// only that is refused, one key is throttled say, and others need not wait for it: it does
// not count as running meanwhile, and may come on top of parallel afterwards.
func (b *batcher[T]) pause(stop <-chan struct{}, d time.Duration, answered bool, batch, left []T) bool {
	if !answered {
		return pause(stop, d)
	}
	done := slices.DeleteFunc(slices.Clone(batch), func(item T) bool { return slices.Contains(left, item) })
	b.mu.Lock()
	b.running--
	b.pass(done)
	b.start(false)
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.running++
		b.mu.Unlock()
	}()
	return pause(stop, d)
}
