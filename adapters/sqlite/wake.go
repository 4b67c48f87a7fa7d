package sqlite

import (
	"database/sql"
	"sync"
	"time"
)

// wakes tells consumers that it may be worth looking at the file.
type wakes struct {
	mu        sync.Mutex
	consumers map[*consumer]struct{}
}

func (w *wakes) add(c *consumer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.consumers == nil {
		w.consumers = map[*consumer]struct{}{}
	}
	w.consumers[c] = struct{}{}
}

func (w *wakes) remove(c *consumer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.consumers, c)
}

// topic wakes the consumers of a topic, all for "".
func (w *wakes) topic(topic string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.consumers {
		if topic == "" || c.topic == topic {
			signal(c.wake)
		}
	}
}

// waiting wakes the members of groups whose free rows wait for the head of their
// lane: an acknowledgement may have removed it.
func (w *wakes) waiting() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.consumers {
		if c.waiting.Load() {
			signal(c.wake)
		}
	}
}

func signal(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// startWatch starts watch, unless Close is waiting for what runs already.
func (b *Broker) startWatch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.background.Go(b.watch)
	}
}

// watch asks the file for its data version, which any commit of another
// connection changes: other processes cannot send a signal. It costs a few
// microseconds, and no lock.
func (b *Broker) watch() {
	var conn *sql.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	last, pause := int64(-1), b.config.PollInterval
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-timer.C:
		}
		// The version is the connection's own count, so it must stay the same one.
		var version int64
		err := error(nil)
		if conn == nil {
			conn, err = b.db.Conn(b.ctx)
		}
		if err == nil {
			err = conn.QueryRowContext(b.ctx, `PRAGMA data_version`).Scan(&version)
		}
		switch {
		case err != nil:
			if conn != nil {
				_ = conn.Close()
			}
			conn, last = nil, -1
			b.wakes.topic("") // blind: let them look
			pause = 5 * b.config.PollInterval
		case version != last:
			last, pause = version, b.config.PollInterval
			b.wakes.topic("")
		default:
			pause = min(pause+b.config.PollInterval/10, 5*b.config.PollInterval)
		}
		timer.Reset(pause)
	}
}
