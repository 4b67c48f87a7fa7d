package kafka

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/hapax-go/hapax/dedup"
)

func randomID(random *rand.Rand) (id dedup.ID) {
	binary.LittleEndian.PutUint64(id[:8], random.Uint64())
	binary.LittleEndian.PutUint64(id[8:], random.Uint64())
	return id
}

func unlimited(int64) error { return nil }

// Against a map, over several windows: nothing is forgotten early, nothing is kept
// for ever, and an ID takes less than 40 bytes at every size.
func TestIDTableAgreesWithAMap(t *testing.T) {
	const window = time.Hour
	random := rand.New(rand.NewPCG(1, 2))
	table, model := newIDTable(window, unlimited), map[dedup.ID]time.Time{}
	now := time.Unix(1_800_000_000, 0)
	var ids []dedup.ID
	for i := range 200_000 {
		now = now.Add(time.Duration(random.IntN(150)) * time.Millisecond)
		id := randomID(random)
		if len(ids) > 0 && random.IntN(4) == 0 {
			id = ids[random.IntN(len(ids))]
		}
		got := table.verdict(id, dedup.Digest{1}, now)
		at, known := model[id]
		switch age := now.Sub(at); {
		case (!known || age > window+window/32) && got != dedup.Fresh, // a bucket or two later it is gone
			known && age <= window && got != dedup.Duplicate:
			t.Fatalf("round %d, age %s, known %t: %s", i, age, known, got)
		}
		if got == dedup.Fresh {
			require.NoError(t, table.add(id, fingerprint(dedup.Digest{1}), now, now))
			model[id] = now
			ids = append(ids, id)
		}
	}
	require.Less(t, table.count, len(ids)*3/4, "expired IDs are dropped")
}

func TestIDTableMemory(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	table, now := newIDTable(7*24*time.Hour, unlimited), time.Unix(1_800_000_000, 0)
	worst := 0.0
	for i := range 1_000_000 {
		if err := table.add(randomID(random), [4]byte{1}, now, now); err != nil {
			t.Fatal(err)
		}
		if i >= 10_000 && i%1000 == 0 {
			worst = max(worst, float64(table.bytes())/float64(table.count))
		}
	}
	require.Less(t, worst, 40.0)
	t.Logf("%d IDs: %.1f bytes an ID, %.1f at worst on the way", table.count, float64(table.bytes())/float64(table.count), worst)
}

func TestIDTableConflictsAndLimits(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	id := dedup.ID{1}
	left := int64(16 * entrySize)
	table := newIDTable(time.Hour, func(more int64) error {
		if left -= more; left < 0 {
			return errors.New("full")
		}
		return nil
	})
	require.NoError(t, table.add(id, fingerprint(dedup.Digest{7}), now, now))
	require.Equal(t, dedup.Duplicate, table.verdict(id, dedup.Digest{7}, now))
	require.Equal(t, dedup.Duplicate, table.verdict(id, dedup.Digest{}, now), "not compared")
	require.Equal(t, dedup.Conflict, table.verdict(id, dedup.Digest{8}, now))
	require.EqualError(t, table.add(dedup.ID{2}, [4]byte{}, now, now), "full")
	require.Equal(t, dedup.Duplicate, table.verdict(id, dedup.Digest{7}, now), "nothing is forgotten for want of room")

	// 65,536 buckets later the 16 bits of the bucket are the same again.
	short := newIDTable(time.Second, unlimited)
	require.NoError(t, short.add(id, [4]byte{}, now, now))
	require.Equal(t, dedup.Fresh, short.verdict(id, dedup.Digest{}, now.Add(65_536*time.Second)))
}

// A copy that comes after the window takes effect again, and from then on it is the one that
// others are compared with.
func TestIDTableRemembersAnew(t *testing.T) {
	now, id := time.Unix(1_800_000_000, 0), dedup.ID{1}
	table := newIDTable(time.Hour, unlimited)
	require.NoError(t, table.add(id, fingerprint(dedup.Digest{7}), now, now))
	now = now.Add(time.Hour)
	require.Equal(t, dedup.Conflict, table.verdict(id, dedup.Digest{8}, now), "still in the window")
	now = now.Add(time.Hour / 32)
	require.Equal(t, dedup.Fresh, table.verdict(id, dedup.Digest{8}, now))
	require.NoError(t, table.add(id, fingerprint(dedup.Digest{8}), now, now))
	require.Equal(t, dedup.Duplicate, table.verdict(id, dedup.Digest{8}, now))
	require.Equal(t, dedup.Conflict, table.verdict(id, dedup.Digest{7}, now))
	require.Equal(t, 1, table.count)
}

// A table that nobody has looked at for longer than the window is empty, and has room for
// as many IDs as before.
func TestIDTableAfterAPause(t *testing.T) {
	random, now := rand.New(rand.NewPCG(7, 8)), time.Unix(1_800_000_000, 0)
	table := newIDTable(time.Hour, unlimited)
	var filled int64
	for round := range 5 {
		for range 1000 {
			require.NoError(t, table.add(randomID(random), [4]byte{1}, now, now))
		}
		require.Equal(t, 1000, table.count)
		if round == 0 {
			filled = table.bytes()
		}
		require.Less(t, table.bytes(), 2*filled, "round %d", round)
		now = now.Add(2 * time.Hour)
	}
}

func TestIDRecords(t *testing.T) {
	entries := []*dedup.Entry{{ID: dedup.ID{1}, Digest: dedup.Digest{2}}, {ID: dedup.ID{3}}}
	value := appendIDs(nil, entries)
	require.Len(t, value, 2+2*logEntry)
	var ids []dedup.ID
	require.NoError(t, readIDs(value, func(id dedup.ID, digest [4]byte) error {
		require.Equal(t, fingerprint(entries[len(ids)].Digest), digest)
		ids = append(ids, id)
		return nil
	}))
	require.Equal(t, []dedup.ID{{1}, {3}}, ids)
	for _, broken := range [][]byte{nil, {2, 0}, value[:len(value)-1], {1, 255}} {
		require.Error(t, readIDs(broken, func(dedup.ID, [4]byte) error { return nil }))
	}
}

// Offsets end in any order; an abort takes staged ones back.
// What a new owner of a partition waits for: a million IDs, 500 a transaction.
func TestRestoreOfAMillionIDs(t *testing.T) {
	const records, each = 2000, 500
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "log"))
	require.NoError(t, err)
	defer cluster.Close()
	b, err := Open(t.Context(), Config{Brokers: cluster.ListenAddrs(), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close()) }()
	random := rand.New(rand.NewPCG(5, 6))
	for range records {
		entries := make([]*dedup.Entry, each)
		for i := range entries {
			entries[i] = &dedup.Entry{ID: randomID(random)}
		}
		b.client.Produce(t.Context(), &kgo.Record{Topic: "log", Value: appendIDs(nil, entries)}, nil)
	}
	require.NoError(t, b.client.Flush(t.Context()))
	began := time.Now()
	stretches, err := b.extent(t.Context(), "log")
	require.NoError(t, err)
	table, finished := newIDTable(time.Hour, b.allocate), false
	err = b.readLog(t.Context(), "log", stretches, func(r *kgo.Record) error {
		return readIDs(r.Value, func(id dedup.ID, digest [4]byte) error { return table.add(id, digest, r.Timestamp, began) })
	}, func(int32) { finished = true })
	require.NoError(t, err)
	require.True(t, finished)
	require.Equal(t, records*each, table.count)
	t.Logf("%d IDs restored in %s", table.count, time.Since(began).Round(time.Millisecond))
}
