package ledger

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	adapter "github.com/hapax-go/hapax/adapters/redis"
	"github.com/hapax-go/hapax/adapters/redis/internal/marks"
	"github.com/hapax-go/hapax/dedup"
)

//go:embed slices.lua
var slicesSource string

//go:embed claim.lua
var claimSource string

//go:embed change.lua
var changeSource string

var (
	claimScript  = redis.NewScript(slicesSource + claimSource)
	changeScript = redis.NewScript(slicesSource + changeSource)
)

// Config configures a Ledger.
type Config struct {
	// Window is how long marks last. Default 7 days. A mark may last an eighth of
	// it longer.
	Window time.Duration
	// Prefix begins the ledger's keys, so that several can share a server. Default
	// "hapax:ledger".
	Prefix string
	// Clock, for tests, is added to the server's clock.
	Clock func() time.Duration
}

// Ledger is a dedup.Ledger on Redis. All methods are safe for concurrent use. Put
// dedup/ledger/coalesce in front of it, so that concurrent handlers share calls.
type Ledger struct {
	client redis.UniversalClient
	config Config
	shards int
	owned  bool // the client is the ledger's own
}

var _ dedup.Ledger = (*Ledger)(nil)

// Open connects to a server, sentinels or a cluster, and returns a ledger that owns
// the connection: Close ends it. adapter.ParseURL makes the connection of a string.
func Open(ctx context.Context, connection adapter.Config, config Config) (*Ledger, error) {
	client, err := adapter.Connect(ctx, connection)
	if err != nil {
		return nil, fmt.Errorf("open redis ledger: %w", err)
	}
	l, err := New(client, config)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	l.owned = true
	return l, nil
}

// New returns a ledger over a client that stays the caller's. The server should be
// persistent and evict nothing; the redis adapter's Check tells.
func New(client redis.UniversalClient, config Config) (*Ledger, error) {
	if config.Window == 0 {
		config.Window = 7 * 24 * time.Hour
	}
	if config.Window < 0 {
		return nil, fmt.Errorf("configure redis ledger: window is %s, expected more than zero", config.Window)
	}
	if config.Prefix == "" {
		config.Prefix = "hapax:ledger"
	}
	if config.Clock == nil {
		config.Clock = func() time.Duration { return 0 }
	}
	l := &Ledger{client: client, config: config, shards: 1}
	if _, cluster := client.(*redis.ClusterClient); cluster {
		l.shards = clusterShards // they spread over the nodes
	}
	return l, nil
}

// clusterShards divide the IDs in a cluster; it must not change.
const clusterShards = 64

// Claim implements dedup.Ledger.
func (l *Ledger) Claim(ctx context.Context, lease time.Duration, entries []*dedup.Entry) error {
	return l.each(entries, func(shard int, entries []*dedup.Entry) error {
		known := make([]byte, 0, 10*len(entries))
		for _, entry := range entries {
			tag := marks.NewTag(entry.Digest)
			known = append(binary.BigEndian.AppendUint64(known, entry.Token), tag[:]...)
		}
		verdicts, err := l.run(ctx, claimScript, shard, lease, "claim", entries, known)
		for i := range verdicts {
			entries[i].Verdict = dedup.Verdict(verdicts[i] - '0')
		}
		return err
	})
}

// Renew implements dedup.Ledger.
func (l *Ledger) Renew(ctx context.Context, lease time.Duration, entries []*dedup.Entry) error {
	return l.change(ctx, "renew", lease, entries)
}

// Complete implements dedup.Ledger.
func (l *Ledger) Complete(ctx context.Context, entries []*dedup.Entry) error {
	return l.change(ctx, "complete", 0, entries)
}

// Release implements dedup.Ledger.
func (l *Ledger) Release(ctx context.Context, entries []*dedup.Entry) error {
	copies := make([]*dedup.Entry, len(entries)) // releasing says nothing of Lost
	for i, entry := range entries {
		copied := *entry
		copies[i] = &copied
	}
	return l.change(ctx, "release", 0, copies)
}

// Close implements dedup.Ledger. A client that was given to New stays open.
func (l *Ledger) Close() error {
	if !l.owned {
		return nil
	}
	if err := l.client.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("close redis ledger: %w", err)
	}
	return nil
}

func (l *Ledger) change(ctx context.Context, what string, lease time.Duration, entries []*dedup.Entry) error {
	return l.each(entries, func(shard int, entries []*dedup.Entry) error {
		known := make([]byte, 0, 8*len(entries))
		for _, entry := range entries {
			known = binary.BigEndian.AppendUint64(known, entry.Token)
		}
		lost, err := l.run(ctx, changeScript, shard, lease, what, entries, known)
		for i := range lost {
			entries[i].Lost = lost[i] == '1'
		}
		return err
	})
}

// run returns a digit for each entry. The server pays for each argument about as much as
// for looking it up, so what goes with the IDs is one.
func (l *Ledger) run(ctx context.Context, script *redis.Script, shard int, lease time.Duration, what string, entries []*dedup.Entry, known []byte) (string, error) {
	args := append(make([]any, 0, 5+len(entries)), marks.Set{Window: l.config.Window}.SliceLength(), l.config.Clock().Milliseconds(), lease.Milliseconds(), what)
	for _, entry := range entries {
		args = append(args, (*id)(&entry.ID))
	}
	digits, err := script.Run(ctx, l.client, []string{l.directory(shard)}, append(args, known)...).Text()
	if err == nil && len(digits) != len(entries) {
		err = fmt.Errorf("the script answered %q for %d entries", digits, len(entries))
	}
	if err != nil {
		return "", fmt.Errorf("%s on redis ledger: %w", what, err)
	}
	return digits, nil
}

// id is an ID that can be an argument by its address, which costs no allocation.
type id dedup.ID

// MarshalBinary implements encoding.BinaryMarshaler.
func (i *id) MarshalBinary() ([]byte, error) { return i[:], nil }

// each runs a call for each shard, side by side; with one shard, for all entries at
// once.
func (l *Ledger) each(entries []*dedup.Entry, call func(int, []*dedup.Entry) error) error {
	if l.shards == 1 {
		return call(0, entries)
	}
	byShard := map[int][]*dedup.Entry{}
	for _, entry := range entries {
		shard := int(entry.ID[15]) % l.shards
		byShard[shard] = append(byShard[shard], entry)
	}
	errs := make([]error, l.shards)
	var calls sync.WaitGroup
	for shard, some := range byShard {
		calls.Go(func() { errs[shard] = call(shard, some) })
	}
	calls.Wait()
	return errors.Join(errs...)
}

// directory is the key of a shard's directory. In a cluster its hash tag keeps the
// shard's slices on one node.
func (l *Ledger) directory(shard int) string {
	if l.shards == 1 {
		return l.config.Prefix + ":ids"
	}
	return fmt.Sprintf("%s:{%d}:ids", l.config.Prefix, shard)
}
