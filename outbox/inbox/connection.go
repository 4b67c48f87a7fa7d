package inbox

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
)

// write is the writer's goroutine. It keeps one connection and replaces it when
// an error leaves its state in doubt.
func (g *Group) write() {
	defer close(g.ended)
	for {
		err := g.connect()
		if err == nil {
			return // closed, and the queue is empty
		}
		if !errors.Is(err, errAltered) {
			g.config.Logger.Warn("database writer opens a new connection", "error", err)
		}
	}
}

// errAltered: a handler has changed the connection. It ends with the transaction.
var errAltered = errors.New("a handler changed the connection")

// errReconnect makes database/sql throw the connection away.
func errReconnect(err error) error { return errors.Join(err, driver.ErrBadConn) }

// connect serves the queue on one connection, until it must be replaced.
func (g *Group) connect() error {
	conn, err := g.db.Conn(context.Background())
	if err != nil {
		g.wait()
		g.reject(fmt.Errorf("connect database writer: %w", err))
		if g.over() {
			return nil
		}
		return err
	}
	defer conn.Close()
	return conn.Raw(func(raw any) error {
		s := newSession(raw.(driver.Conn))
		defer s.close()
		// The writer waits for the lock by itself, see begin.
		if err := s.run("PRAGMA busy_timeout = 0"); err != nil {
			g.wait()
			g.reject(err)
			return errReconnect(err)
		}
		for g.wait() {
			if err := g.serve(s); err != nil {
				return errReconnect(err)
			}
		}
		return nil
	})
}

// wait blocks until there is something to do; false: nothing any more.
func (g *Group) wait() bool {
	for {
		g.mu.Lock()
		pending, closed := len(g.queue) > 0, g.closed
		g.mu.Unlock()
		if pending || closed {
			return pending
		}
		<-g.wake
	}
}

func (g *Group) over() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed && len(g.queue) == 0
}

// reject fails everything queued. Nothing of it ran.
func (g *Group) reject(err error) {
	for _, u := range g.take(1 << 30) {
		if u.claim() {
			u.fail(err)
		}
	}
}
