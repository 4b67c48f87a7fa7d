package ledger_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	adapter "github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/adapters/redis/ledger"
	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/ledgertest"
	"github.com/hapax-go/hapax/internal/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var prefixes atomic.Int64

func conformance(t *testing.T, connect func(*testing.T) redis.UniversalClient) {
	ledgertest.Run(t, func(t *testing.T, options ledgertest.Options) ledgertest.Harness {
		var skew atomic.Int64
		config := ledger.Config{
			Window: options.Window, Prefix: fmt.Sprintf("hapax:test:%d:%d", dedup.NextToken(), prefixes.Add(1)),
			Clock: func() time.Duration { return time.Duration(skew.Load()) },
		}
		open := func() dedup.Ledger {
			l, err := ledger.New(connect(t), config)
			require.NoError(t, err)
			return l
		}
		return ledgertest.Harness{
			Ledger: open(), Peer: open, Reopen: open, Slack: options.Window / 8,
			Advance: func(d time.Duration) { skew.Add(int64(d)) },
		}
	})
}

func TestConformance(t *testing.T) {
	address := servers.Require(t, servers.Redis)
	conformance(t, func(t *testing.T) redis.UniversalClient {
		client := redis.NewClient(&redis.Options{Addr: address.Hosts[0]})
		t.Cleanup(func() { require.NoError(t, client.Close()) })
		return client
	})
}

func TestConformanceInCluster(t *testing.T) {
	address := servers.Require(t, servers.RedisCluster)
	conformance(t, func(t *testing.T) redis.UniversalClient {
		client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: address.Hosts})
		t.Cleanup(func() { require.NoError(t, client.Close()) })
		return client
	})
}

// The rules that the adapter names are enough for the ledger.
func TestConformanceWithPermissions(t *testing.T) {
	address := servers.Require(t, servers.Redis)
	admin := redis.NewClient(&redis.Options{Addr: address.Hosts[0]})
	defer admin.Close()
	name := fmt.Sprintf("test-%d", dedup.NextToken())
	rules := []any{"ACL", "SETUSER", name, "on", ">password", "~hapax:*"}
	for rule := range strings.FieldsSeq(adapter.Permissions) {
		rules = append(rules, rule)
	}
	require.NoError(t, admin.Do(t.Context(), rules...).Err())
	defer func() { require.NoError(t, admin.Do(context.Background(), "ACL", "DELUSER", name).Err()) }()
	conformance(t, func(t *testing.T) redis.UniversalClient {
		client := redis.NewClient(&redis.Options{Addr: address.Hosts[0], Username: name, Password: "password"})
		t.Cleanup(func() { require.NoError(t, client.Close()) })
		return client
	})
}

// What was marked under one window is known under another, for as long as it was to last.
func TestWindowMayChange(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: servers.Require(t, servers.Redis).Hosts[0]})
	defer client.Close()
	var skew time.Duration
	prefix := fmt.Sprintf("hapax:test:%d", dedup.NextToken())
	claim := func(window time.Duration) dedup.Verdict {
		l, err := ledger.New(client, ledger.Config{Window: window, Prefix: prefix, Clock: func() time.Duration { return skew }})
		require.NoError(t, err)
		entry := &dedup.Entry{ID: dedup.NewID(dedup.Scope{}, "event"), Token: dedup.NextToken()}
		require.NoError(t, l.Claim(t.Context(), time.Minute, []*dedup.Entry{entry}))
		if entry.Verdict == dedup.Fresh {
			require.NoError(t, l.Complete(t.Context(), []*dedup.Entry{entry}))
		}
		return entry.Verdict
	}
	require.Equal(t, dedup.Fresh, claim(8*time.Hour))
	for _, window := range []time.Duration{time.Minute, 8 * time.Hour, 80 * time.Hour} {
		require.Equal(t, dedup.Duplicate, claim(window), window)
	}
	skew = 7*time.Hour + 59*time.Minute
	require.Equal(t, dedup.Duplicate, claim(time.Minute))
	skew = 9*time.Hour + time.Minute // a slice more than the window
	require.Equal(t, dedup.Fresh, claim(80*time.Hour))
	skew += 90*time.Hour + time.Minute
	require.Equal(t, dedup.Fresh, claim(time.Minute))
	skew += 2 * time.Minute
	require.Equal(t, dedup.Fresh, claim(time.Minute))
	keys, err := client.Keys(t.Context(), prefix+":ids*").Result()
	require.NoError(t, err)
	require.Len(t, keys, 2, "the directory and one slice: %v", keys)
}

// A mark dies a window and a slice after it was set, whether or not the ledger was used
// meanwhile, and its slice leaves the server.
func TestDeadMarksStayDead(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: servers.Require(t, servers.Redis).Hosts[0]})
	defer client.Close()
	const window = 8 * time.Hour // of slices of an hour
	var skew time.Duration
	prefix := fmt.Sprintf("hapax:test:%d", dedup.NextToken())
	l, err := ledger.New(client, ledger.Config{Window: window, Prefix: prefix, Clock: func() time.Duration { return skew }})
	require.NoError(t, err)
	mark := func(event string, digest dedup.Digest) dedup.Verdict {
		entry := &dedup.Entry{ID: dedup.NewID(dedup.Scope{}, event), Digest: digest, Token: dedup.NextToken()}
		require.NoError(t, l.Claim(t.Context(), time.Minute, []*dedup.Entry{entry}))
		if entry.Verdict == dedup.Fresh {
			require.NoError(t, l.Complete(t.Context(), []*dedup.Entry{entry}))
		}
		return entry.Verdict
	}
	for _, leaps := range []int{1, 5, 50} { // the calls on the way are rare, or there are none
		event := fmt.Sprint("event after ", leaps)
		require.Equal(t, dedup.Fresh, mark(event, dedup.Digest{1}))
		require.Equal(t, dedup.Conflict, mark(event, dedup.Digest{2}))
		for leap := range leaps {
			skew += 250 * time.Hour / time.Duration(leaps)
			require.Equal(t, dedup.Fresh, mark(fmt.Sprint(event, " other ", leap), dedup.Digest{}))
		}
		require.Equal(t, dedup.Fresh, mark(event, dedup.Digest{2}), "after %d leaps", leaps)
		keys, err := client.Keys(t.Context(), prefix+":*").Result()
		require.NoError(t, err)
		require.LessOrEqual(t, len(keys), 1+9+1, "directory, slices, that of the leases' deadlines: %q", keys)
	}
}

// A ledger that was opened owns its connection.
func TestOpen(t *testing.T) {
	address := servers.Require(t, servers.Redis).Hosts[0]
	connection, err := adapter.ParseURL("redis://" + address + "/0")
	require.NoError(t, err)
	l, err := ledger.Open(t.Context(), connection, ledger.Config{Prefix: fmt.Sprintf("hapax:test:%d", dedup.NextToken())})
	require.NoError(t, err)
	entry := &dedup.Entry{ID: dedup.NewID(dedup.Scope{}, "1"), Token: dedup.NextToken()}
	require.NoError(t, l.Claim(t.Context(), time.Second, []*dedup.Entry{entry}))
	require.Equal(t, dedup.Fresh, entry.Verdict)
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	require.Error(t, l.Claim(t.Context(), time.Second, []*dedup.Entry{entry}))

	_, err = ledger.Open(t.Context(), connection, ledger.Config{Window: -1})
	require.ErrorContains(t, err, "window is -1ns")
	connection, err = adapter.ParseURL("redis://u:hunter2@127.0.0.1:1/0")
	require.NoError(t, err)
	_, err = ledger.Open(t.Context(), connection, ledger.Config{})
	require.ErrorContains(t, err, "check that the server runs there")
	require.NotContains(t, err.Error(), "hunter2")
}

// A lease whose event never came again leaves the server with its slice of time, which is
// that of its deadline: until a window after it ran out it may still be completed.
func TestAbandonedLeasesAreRemoved(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: servers.Require(t, servers.Redis).Hosts[0]})
	defer client.Close()
	var skew time.Duration
	prefix := fmt.Sprintf("hapax:test:%d", dedup.NextToken())
	l, err := ledger.New(client, ledger.Config{Window: time.Hour, Prefix: prefix, Clock: func() time.Duration { return skew }})
	require.NoError(t, err)
	claim := func(event string, lease time.Duration) []*dedup.Entry {
		entries := []*dedup.Entry{{ID: dedup.NewID(dedup.Scope{}, event), Token: dedup.NextToken()}}
		require.NoError(t, l.Claim(t.Context(), lease, entries))
		require.Equal(t, dedup.Fresh, entries[0].Verdict)
		return entries
	}
	const long = 3 * time.Hour // longer than the window
	early, _, renewed := claim("early", long), claim("abandoned", long), claim("renewed", time.Minute)
	skew = time.Hour
	require.NoError(t, l.Renew(t.Context(), long, renewed))
	skew = long + time.Hour - time.Minute
	require.NoError(t, l.Complete(t.Context(), early))
	require.NoError(t, l.Complete(t.Context(), renewed))
	require.False(t, early[0].Lost || renewed[0].Lost)

	skew = long + time.Hour + time.Hour/8 + time.Minute
	claim("later", time.Minute)
	records := int64(0)
	keys, err := client.Keys(t.Context(), prefix+":ids:*").Result()
	require.NoError(t, err)
	for _, key := range keys {
		records += client.HLen(t.Context(), key).Val()
	}
	require.EqualValues(t, 3, records, "the two marks and the last lease: %q", keys)
}

// An ID has one record at any time, in whichever slice it was put: a lease that was taken
// over, renewed or completed in a later slice is gone from its own. Else the older record
// could be found in place of the newer.
func TestAnIDHasOneRecord(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: servers.Require(t, servers.Redis).Hosts[0]})
	defer client.Close()
	var skew time.Duration
	prefix := fmt.Sprintf("hapax:test:%d", dedup.NextToken())
	l, err := ledger.New(client, ledger.Config{Window: 8 * time.Hour, Prefix: prefix, Clock: func() time.Duration { return skew }})
	require.NoError(t, err)
	entry := func() []*dedup.Entry {
		return []*dedup.Entry{{ID: dedup.NewID(dedup.Scope{}, "order"), Token: dedup.NextToken()}}
	}
	records := func() (count int64) {
		keys, err := client.Keys(t.Context(), prefix+":ids:*").Result()
		require.NoError(t, err)
		for _, key := range keys {
			count += client.HLen(t.Context(), key).Val()
		}
		return count
	}
	first, second := entry(), entry()
	require.NoError(t, l.Claim(t.Context(), time.Minute, first))
	skew = time.Hour
	require.NoError(t, l.Claim(t.Context(), time.Minute, second))
	require.Equal(t, dedup.Fresh, second[0].Verdict, "taken over")
	require.EqualValues(t, 1, records())
	skew = 2 * time.Hour
	require.NoError(t, l.Renew(t.Context(), time.Minute, second))
	require.False(t, second[0].Lost)
	require.EqualValues(t, 1, records())
	skew = 3 * time.Hour
	require.NoError(t, l.Complete(t.Context(), first))
	require.True(t, first[0].Lost, "fenced")
	require.NoError(t, l.Complete(t.Context(), second))
	require.False(t, second[0].Lost)
	require.EqualValues(t, 1, records())
	skew = 11*time.Hour + time.Minute // more than a window later, of a slice more
	third := entry()
	require.NoError(t, l.Claim(t.Context(), time.Minute, third))
	require.Equal(t, dedup.Duplicate, third[0].Verdict)
	skew = 13 * time.Hour
	require.NoError(t, l.Claim(t.Context(), time.Minute, third))
	require.Equal(t, dedup.Fresh, third[0].Verdict)
	require.NoError(t, l.Release(t.Context(), third))
	require.Zero(t, records())
}

// What an ID takes in memory, by the server's own account. HAPAX_SOAK=1 marks a million.
func TestMemory(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: servers.Require(t, servers.Redis).Hosts[0]})
	defer client.Close()
	total := 100_000
	if os.Getenv("HAPAX_SOAK") == "1" {
		total = 1_000_000
	}
	prefix := fmt.Sprintf("hapax:test:%d", dedup.NextToken())
	l, err := ledger.New(client, ledger.Config{Prefix: prefix})
	require.NoError(t, err)
	for done := 0; done < total; done += 500 {
		entries := make([]*dedup.Entry, 500)
		for i := range entries {
			entries[i] = &dedup.Entry{ID: dedup.NewID(dedup.Scope{}, fmt.Sprint(done+i)), Digest: dedup.Digest{1}, Token: dedup.NextToken()}
		}
		require.NoError(t, l.Claim(t.Context(), time.Minute, entries))
		require.NoError(t, l.Complete(t.Context(), entries))
	}
	keys, err := client.Keys(t.Context(), prefix+":*").Result()
	require.NoError(t, err)
	var bytes int64
	for _, key := range keys {
		size, err := client.MemoryUsage(t.Context(), key, 0).Result()
		require.NoError(t, err)
		bytes += size
	}
	t.Logf("%d IDs: %.1f bytes an ID", total, float64(bytes)/float64(total))
	require.Less(t, float64(bytes)/float64(total), 110.0)
	require.NoError(t, client.Unlink(t.Context(), keys...).Err())
}
