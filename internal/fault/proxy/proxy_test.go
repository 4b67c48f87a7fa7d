package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/internal/fault/proxy"
)

// echoServer answers each line with the same line, and counts what it was asked.
type echoServer struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu    sync.Mutex
	asked map[string]int
}

func newEchoServer(t *testing.T) *echoServer {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &echoServer{listener: listener, asked: map[string]int{}}
	server.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			server.serving.Go(func() { server.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		server.serving.Wait()
	})
	return server
}

func (s *echoServer) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		s.mu.Lock()
		s.asked[line]++
		s.mu.Unlock()
		if _, err := io.WriteString(conn, line); err != nil {
			return
		}
	}
}

func (s *echoServer) wasAsked(line string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[line] > 0
}

func listen(t *testing.T, server *echoServer, seed uint64) *proxy.Proxy {
	p, err := proxy.Listen(server.listener.Addr().String(), seed)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	host, _, err := net.SplitHostPort(p.Addr())
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", host)
	return p
}

type client struct {
	net.Conn
	answers *bufio.Reader
}

func dial(t *testing.T, p *proxy.Proxy) *client {
	conn, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	t.Cleanup(func() { _ = conn.Close() })
	return &client{Conn: conn, answers: bufio.NewReader(conn)}
}

func (c *client) ask(line string) error {
	if _, err := io.WriteString(c, line); err != nil {
		return err
	}
	answer, err := c.answers.ReadString('\n')
	if err == nil && answer != line {
		err = fmt.Errorf("asked %q, answered %q", line, answer)
	}
	return err
}

// answered counts the answers until the connection ends, at most limit.
func (c *client) answered(limit int) int {
	for n := range limit {
		if c.ask(fmt.Sprintf("question %d\n", n)) != nil {
			return n
		}
	}
	return limit
}

func TestForwardsUnharmed(t *testing.T) {
	p := listen(t, newEchoServer(t), 1)
	require.Equal(t, 200, dial(t, p).answered(200))
	require.Equal(t, proxy.Stats{Connections: 1}, p.Stats())
}

func TestCutEvery(t *testing.T) {
	p := listen(t, newEchoServer(t), 1)
	open := dial(t, p)
	require.NoError(t, open.ask("before\n"))
	p.CutEvery(30*time.Millisecond, 60*time.Millisecond)
	start := time.Now()
	_, err := open.answers.ReadString('\n') // idle: nothing but the cut ends it
	require.ErrorIs(t, err, io.EOF)
	require.GreaterOrEqual(t, time.Since(start), 25*time.Millisecond)

	require.Less(t, dial(t, p).answered(1e6), int(1e6)) // busy, and made after the fault began
	require.EqualValues(t, 2, p.Stats().Cut)

	require.NoError(t, p.Heal())
	require.Equal(t, 200, dial(t, p).answered(200))
}

func TestDropResponsesLeavesTheOutcomeUnknown(t *testing.T) {
	server := newEchoServer(t)
	p := listen(t, server, 1)
	p.DropResponses(proxy.Drop{Fraction: 1, Spare: 2, Delay: 20 * time.Millisecond})
	c := dial(t, p)
	require.NoError(t, c.ask("one\n"))
	require.NoError(t, c.ask("two\n"))
	start := time.Now()
	require.ErrorIs(t, c.ask("three\n"), io.EOF)
	require.GreaterOrEqual(t, time.Since(start), 15*time.Millisecond)
	require.True(t, server.wasAsked("three\n"), "the server must have done what it could not answer for")
	require.EqualValues(t, 1, p.Stats().Dropped)
}

// Equal seeds drop the same answers of the same connections; another seed drops
// others.
func TestDropIsReplayable(t *testing.T) {
	run := func(seed uint64) (answered []int) {
		p := listen(t, newEchoServer(t), seed)
		p.DropResponses(proxy.Drop{Fraction: 0.1})
		for range 20 {
			answered = append(answered, dial(t, p).answered(500))
		}
		return answered
	}
	first := run(7)
	require.Equal(t, first, run(7))
	require.NotEqual(t, first, run(8))
}

func TestDelayResponses(t *testing.T) {
	p := listen(t, newEchoServer(t), 1)
	p.DelayResponses(1, 20*time.Millisecond, 30*time.Millisecond)
	c := dial(t, p)
	start := time.Now()
	require.Equal(t, 3, c.answered(3))
	require.GreaterOrEqual(t, time.Since(start), 60*time.Millisecond)
	require.EqualValues(t, 3, p.Stats().Delayed)
}

func TestLatencyOfOpenConnections(t *testing.T) {
	p := listen(t, newEchoServer(t), 1)
	c := dial(t, p)
	require.NoError(t, c.ask("before\n"))
	require.NoError(t, p.Latency(50*time.Millisecond, 0))
	start := time.Now()
	require.NoError(t, c.ask("slow\n"))
	require.GreaterOrEqual(t, time.Since(start), 50*time.Millisecond)
	require.NoError(t, p.Heal())
	require.NoError(t, c.ask("after\n"))
}

func TestDownAndUp(t *testing.T) {
	p := listen(t, newEchoServer(t), 1)
	open := dial(t, p)
	require.NoError(t, open.ask("before\n"))
	p.Down()
	require.Error(t, open.ask("gone\n"))
	_, err := net.Dial("tcp", p.Addr())
	require.ErrorContains(t, err, "refused")
	require.NoError(t, p.Up())
	require.NoError(t, dial(t, p).ask("back\n"))
}

// A client that does not read must not keep the proxy from closing, nor leave a
// goroutine behind (see TestMain).
func TestCloseWithBlockedClient(t *testing.T) {
	server := newEchoServer(t)
	p, err := proxy.Listen(server.listener.Addr().String(), 1)
	require.NoError(t, err)
	p.DelayResponses(1, time.Hour, time.Hour)
	c := dial(t, p)
	_, err = io.WriteString(c, "held\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return p.Stats().Delayed == 1 }, 5*time.Second, time.Millisecond)
	p.Close()
	_, err = c.answers.ReadString('\n')
	if err == nil { // the held answer was let go
		_, err = c.answers.ReadString('\n')
	}
	require.Error(t, err)
}

// A client that was killed with answers on their way must not keep it either: by
// then toxiproxy has stopped to take them.
func TestCloseAfterAClientWasKilled(t *testing.T) {
	server := newEchoServer(t)
	p, err := proxy.Listen(server.listener.Addr().String(), 1)
	require.NoError(t, err)
	p.DelayResponses(1, 200*time.Millisecond, 200*time.Millisecond)
	c := dial(t, p)
	for i := range 5 { // the first answer is held, and the others queue behind it
		question := fmt.Sprintf("question %d\n", i)
		_, err = io.WriteString(c, question)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return server.wasAsked(question) }, 5*time.Second, time.Millisecond)
	}
	require.NoError(t, c.Conn.(*net.TCPConn).SetLinger(0))
	require.NoError(t, c.Close())
	require.Eventually(t, func() bool { return p.Stats().Delayed > 1 }, 5*time.Second, time.Millisecond)
	closed := make(chan struct{})
	go func() { p.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		require.FailNow(t, "the proxy does not close")
	}
}

// A server that goes while much is on its way to it leaves nothing behind: see TestMain.
func TestNothingIsLeftOfWhatWasOnItsWay(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p, err := proxy.Listen(listener.Addr().String(), 1)
	require.NoError(t, err)
	client, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	server, err := listener.Accept()
	require.NoError(t, err)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for chunk := make([]byte, 1<<20); ; {
			if _, err := client.Write(chunk); err != nil {
				return
			}
		}
	}()
	_, err = io.CopyN(io.Discard, server, 8<<20)
	require.NoError(t, err)
	require.NoError(t, server.(*net.TCPConn).SetLinger(0)) // it is reset
	require.NoError(t, server.Close())
	require.NoError(t, listener.Close())
	<-gone
	require.NoError(t, client.Close())
	p.Close()
}
