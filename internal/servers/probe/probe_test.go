package probe

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAwaitRepeatsUntilThereIsAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		version, err := Await(t.Context(), func(context.Context) (string, error) {
			if asked++; asked < 5 {
				return "", errors.New("not yet")
			}
			return "1.0", nil
		}, func() error { return nil })
		require.NoError(t, err)
		require.Equal(t, "1.0", version)
		require.Equal(t, 5, asked)
	})
}

func TestAwaitStopsWhenTheServerEnded(t *testing.T) {
	ended := errors.New("node1 ended")
	_, err := Await(t.Context(), func(context.Context) (string, error) { return "", errors.New("refused") }, func() error { return ended })
	require.ErrorIs(t, err, ended)
}

func TestAwaitSaysWhatItHeardLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		refused := errors.New("refused")
		_, err := Await(ctx, func(context.Context) (string, error) { return "", refused }, func() error { return nil })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, refused)
	})
}

func TestKafkaExpectsEveryBroker(t *testing.T) {
	hosts := kfakeHosts(t)
	version, err := Kafka(t.Context(), hosts, true)
	require.NoError(t, err)
	require.NotEmpty(t, version)

	// A broker that answers but belongs to another cluster stands for one that
	// the controller does not let serve yet.
	both := append(hosts, kfakeHosts(t)...)
	_, err = Kafka(t.Context(), both, true)
	require.ErrorContains(t, err, "does not serve yet")
	_, err = Kafka(t.Context(), both, false)
	require.NoError(t, err)
}

func kfakeHosts(t *testing.T) []string {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster.ListenAddrs()
}

func TestRedisMustAnswerPing(t *testing.T) {
	server := miniredis.RunT(t)
	server.SetError("LOADING")
	_, err := Redis(t.Context(), "redis://"+server.Addr()+"/0")
	require.ErrorContains(t, err, "LOADING")
}

type lines struct{ said []string }

func (l *lines) Print(v ...any) { l.said = append(l.said, fmt.Sprint(v...)) }

// Docker accepts for a server that does not listen yet, and drops the connection.
func TestMariaDBIsQuietAboutDroppedConnections(t *testing.T) {
	said := &lines{}
	require.NoError(t, mysql.SetLogger(said))
	t.Cleanup(func() { require.NoError(t, mysql.SetLogger(log.New(os.Stderr, "[mysql] ", log.LstdFlags))) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	_, err = MariaDB(t.Context(), "hapax:hapax@tcp("+l.Addr().String()+")/hapax")
	require.ErrorContains(t, err, "ask mariadb for its version")
	require.NoError(t, l.Close())
	<-done
	require.Empty(t, said.said)
}

func TestSQSExpectsTheListOfQueues(t *testing.T) {
	answer := "<ListQueuesResponse/>"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(answer)) }))
	defer server.Close()
	_, err := SQS(t.Context(), server.URL)
	require.NoError(t, err)
	answer = "It works!"
	_, err = SQS(t.Context(), server.URL)
	require.ErrorContains(t, err, "expected the list of queues")
}
