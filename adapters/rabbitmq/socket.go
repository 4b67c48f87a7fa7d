package rabbitmq

import (
	"bufio"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// socket gathers what is written while an earlier write is under way, and sends it
// with the next. The AMQP library flushes after every publish; a thousand handlers
// that publish at once would make a thousand packets, which cost both sides more
// than all else. A write that returned has not arrived anywhere, but nor had it when
// it was only in the kernel: the confirm tells.
//
// Reads are larger than the library's, of 4 KiB, for the same reason.
type socket struct {
	net.Conn
	reader *bufio.Reader

	deadline atomic.Int64 // of reads, in unix nanoseconds

	mu      sync.Mutex
	changed sync.Cond // pending, err
	pending []byte
	err     error // of a read or write; final
	done    chan struct{}
}

// maxPending bounds what a server that does not read makes the socket keep.
const maxPending = 1 << 20

func newSocket(conn net.Conn) *socket {
	s := &socket{Conn: conn, reader: bufio.NewReaderSize(conn, 64<<10), done: make(chan struct{})}
	s.changed.L = &s.mu
	go s.flush()
	return s
}

// Read implements net.Conn. The library reads in one goroutine. When the peer is gone,
// or has been silent for too long, a Write that waits for room must give up: it holds
// the lock of its channel, which the library takes before it closes the connection, and
// so would wait for ever.
func (s *socket) Read(data []byte) (int, error) {
	n, err := s.reader.Read(data)
	if err != nil {
		s.fail(err)
	}
	return n, err
}

// SetReadDeadline implements net.Conn. With nearly every frame the library moves the
// deadline, which is seconds away; one that would move by less than step stays.
func (s *socket) SetReadDeadline(deadline time.Time) error {
	const step = int64(100 * time.Millisecond)
	next, last := deadline.UnixNano(), s.deadline.Load()
	if deadline.IsZero() {
		next = 0
	} else if next >= last && next-last < step {
		return nil
	}
	s.deadline.Store(next)
	return s.Conn.SetReadDeadline(deadline)
}

// SetDeadline implements net.Conn.
func (s *socket) SetDeadline(deadline time.Time) error {
	s.deadline.Store(0) // the next one for reads counts
	return s.Conn.SetDeadline(deadline)
}

// Write implements net.Conn. It waits only while too much is pending.
func (s *socket) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.pending) > maxPending && s.err == nil {
		s.changed.Wait()
	}
	if s.err != nil {
		return 0, s.err
	}
	if len(s.pending) == 0 {
		defer s.changed.Broadcast()
	}
	s.pending = append(s.pending, data...)
	return len(data), nil
}

// Close implements net.Conn. What is pending is not sent: the library says goodbye,
// and waits for the answer, before it closes.
func (s *socket) Close() error {
	s.fail(net.ErrClosed)
	err := s.Conn.Close()
	<-s.done
	return err
}

func (s *socket) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.changed.Broadcast()
}

// flush writes until the socket fails or is closed.
func (s *socket) flush() {
	defer close(s.done)
	var writing []byte
	for {
		s.mu.Lock()
		for len(s.pending) == 0 && s.err == nil {
			s.changed.Wait()
		}
		s.mu.Unlock()
		runtime.Gosched() // those that are about to write get their turn first
		s.mu.Lock()
		if s.err != nil {
			s.mu.Unlock()
			return
		}
		full := len(s.pending) > maxPending
		writing, s.pending = s.pending, writing[:0]
		if full {
			s.changed.Broadcast()
		}
		s.mu.Unlock()
		if _, err := s.Conn.Write(writing); err != nil {
			s.fail(err)
			return
		}
	}
}
