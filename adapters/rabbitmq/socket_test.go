package rabbitmq

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Writers of all goroutines get through, each write whole, and in the order of each.
func TestSocketKeepsWritesWhole(t *testing.T) {
	near, far := net.Pipe()
	s := newSocket(near)
	const writers, each = 8, 500
	received := make(chan []byte)
	go func() {
		all := make([]byte, writers*each*1003)
		_, _ = io.ReadFull(far, all)
		received <- all
	}()
	var writing sync.WaitGroup
	for i := range writers {
		writing.Go(func() {
			for n := range each {
				_, err := s.Write(append([]byte{byte(i), byte(n), byte(n >> 8)}, bytes.Repeat([]byte{0xff}, 1000)...))
				require.NoError(t, err)
			}
		})
	}
	writing.Wait()
	all := <-received
	require.NoError(t, s.Close())
	next := map[byte]int{}
	for ; len(all) >= 1003; all = all[1003:] {
		require.Equal(t, next[all[0]], int(all[1])|int(all[2])<<8)
		next[all[0]]++
	}
	require.Equal(t, each, next[0])
	require.Len(t, next, writers)
}

// A peer that reads nothing holds writers up, and closing frees them.
func TestSocketHoldsWritersUp(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	s := newSocket(near)
	failed := make(chan error)
	go func() {
		for {
			if _, err := s.Write(make([]byte, 256<<10)); err != nil {
				failed <- err
				return
			}
		}
	}()
	require.Never(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.pending) > maxPending+256<<10
	}, 50*time.Millisecond, time.Millisecond)
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-failed, net.ErrClosed)
	_, err := s.Write([]byte("late"))
	require.ErrorIs(t, err, net.ErrClosed)
}

// A peer that is silent for too long frees the writers that wait for it.
func TestSocketFreesWritersOfSilentPeer(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	s := newSocket(near)
	failed := make(chan error, 1)
	go func() {
		for {
			if _, err := s.Write(make([]byte, 256<<10)); err != nil {
				failed <- err
				return
			}
		}
	}()
	require.NoError(t, s.SetReadDeadline(time.Now()))
	_, err := s.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	select {
	case err := <-failed:
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	case <-time.After(10 * time.Second):
		require.Fail(t, "the writer still waits")
	}
	require.NoError(t, s.Close())
}

// deadlines remembers which deadlines were set.
type deadlines struct {
	net.Conn
	set []time.Time
}

func (d *deadlines) SetReadDeadline(deadline time.Time) error {
	d.set = append(d.set, deadline)
	return nil
}

func (d *deadlines) SetDeadline(deadline time.Time) error { return d.SetReadDeadline(deadline) }

// A deadline that moves by little stays; what it must never do is to be missing.
func TestSocketMovesDeadlines(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	conn := &deadlines{Conn: near}
	s := newSocket(conn)
	at := func(ms int) time.Time { return time.Unix(1_000_000, 0).Add(time.Duration(ms) * time.Millisecond) }
	for _, deadline := range []time.Time{at(0), at(1), at(99), at(100), at(150), at(1000)} {
		require.NoError(t, s.SetReadDeadline(deadline))
	}
	require.Equal(t, []time.Time{at(0), at(100), at(1000)}, conn.set)
	for _, set := range []func(time.Time) error{s.SetDeadline, s.SetReadDeadline} {
		conn.set = nil
		require.NoError(t, set(time.Time{}))
		require.NoError(t, s.SetReadDeadline(at(1001)))
		require.Equal(t, []time.Time{{}, at(1001)}, conn.set)
	}
	conn.set = nil
	require.NoError(t, s.SetReadDeadline(at(500)))
	require.Equal(t, []time.Time{at(500)}, conn.set)
	require.NoError(t, s.Close())
}
