package database_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/dedup/ledger/database"
	"github.com/hapax-go/hapax/internal/servers"
)

// TestGrowth tells how fast a ledger takes new IDs when it has ten thousand, and when it
// has many times that, and the bytes of all. HAPAX_SOAK=1; HAPAX_MARKS says how many, a
// million by default. Run one server at a time: -run TestGrowth/postgres.
func TestGrowth(t *testing.T) {
	servers.OnRequest(t, "HAPAX_SOAK", "it takes minutes")
	count, err := strconv.Atoi(os.Getenv("HAPAX_MARKS"))
	if err != nil {
		count = 1_000_000
	}
	onServers(t, func(t *testing.T, s server) {
		table := s.tables(t)
		first := s.rate(t, table)
		total := 10_000 + rates*rateMarks
		t.Logf("at 10 thousand: %.0f new IDs a second", first)
		for part := 1; part <= 2; part++ {
			begin, before := time.Now(), total
			total += s.stuff(t, table, part*count/2-total)
			t.Logf("%d thousand IDs put in and packed in %s", (total-before)/1000, time.Since(begin).Round(time.Second))
			rate := s.rate(t, table)
			t.Logf("at %d thousand: %.0f new IDs a second, %.2f of the first", total/1000, rate, rate/first)
			total += 10_000 + rates*rateMarks
		}
		ledger := s.open(t, table, database.Config{Upkeep: -1})
		require.NoError(t, ledger.Maintain(t.Context()))
		var bytes int64
		for table, size := range s.sizes(t, ledger.Tables()) {
			bytes += size
			t.Logf("%s: %.1f bytes an ID", table, float64(size)/float64(total))
		}
		t.Logf("all: %.1f bytes an ID of %d thousand", float64(bytes)/float64(total), total/1000)
	})
}

// A rate is the median of so many fills, each of two runs of marks, so that as much is
// packed in one as in another.
const (
	rates     = 3
	rateMarks = 2 * runMarks
	runMarks  = 64 << 10 // the default of Config.RunMarks
)

// rate fills the ledger while its upkeep runs, and returns the new IDs a second.
func (s server) rate(t *testing.T, table string) float64 {
	ledger := s.open(t, table, database.Config{})
	defer ledger.Close()
	fill(t, ledger, 10_000) // and reads the filters of what is there
	var list []float64
	for range rates {
		start := time.Now()
		fill(t, ledger, rateMarks)
		list = append(list, rateMarks/time.Since(start).Seconds())
	}
	slices.Sort(list)
	return list[rates/2]
}

// stuff puts marks into the hot table, as calls would have left them there, has them
// packed, and so on until there are at least so many; it returns how many. Nobody else
// uses the ledger meanwhile.
func (s server) stuff(t *testing.T, table string, count int) (total int) {
	ledger := s.open(t, table, database.Config{Upkeep: -1})
	defer ledger.Close()
	db, tables := s.connect(t), ledger.Tables()
	expires := time.Now().Add(168 * time.Hour).UnixMilli()
	for ; total < count; total += runMarks {
		var slot int
		require.NoError(t, db.QueryRow(`SELECT slot FROM `+tables[0]).Scan(&slot))
		// Random in all bits, as the IDs of events are.
		query := `INSERT INTO %s (token, expires_at, id, digest, marked) SELECT n, %d, md5(n::text || random())::uuid, md5(n::text)::uuid, true FROM generate_series(1, %d) n`
		if s.dialect == database.MySQL {
			query = `INSERT INTO %s (token, expires_at, id, digest, marked) SELECT seq, %d, UNHEX(MD5(CONCAT(seq, RAND()))), UNHEX(MD5(seq)), 1 FROM seq_1_to_%d`
		}
		_, err := db.Exec(fmt.Sprintf(query, tables[4+slot], expires, runMarks))
		require.NoError(t, err)
		require.NoError(t, ledger.Maintain(t.Context()))
	}
	return total
}

// fill claims and completes new IDs, 500 at a time on four connections.
func fill(t testing.TB, ledger *database.Ledger, count int) {
	t.Helper()
	var left atomic.Int64
	left.Store(int64(count))
	var workers sync.WaitGroup
	errs := make([]error, 4)
	for worker := range errs {
		workers.Go(func() {
			for errs[worker] == nil && left.Add(-500) > -500 {
				entries := make([]*dedup.Entry, 500)
				for i := range entries {
					entries[i] = &dedup.Entry{Token: dedup.NextToken(), Digest: dedup.Digest{1}}
					_, _ = rand.Read(entries[i].ID[:])
				}
				errs[worker] = errors.Join(ledger.Claim(t.Context(), time.Minute, entries), ledger.Complete(t.Context(), entries))
				if entries[0].Verdict != dedup.Fresh || entries[499].Lost {
					errs[worker] = errors.Join(errs[worker], errors.New("a new ID was not fresh"))
				}
			}
		})
	}
	workers.Wait()
	require.NoError(t, errors.Join(errs...))
}
