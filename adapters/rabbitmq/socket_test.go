package rabbitmq

import (
	"bytes"
	"io"
	"net"
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
