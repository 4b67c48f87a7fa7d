package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/hapax-go/hapax/dedup"
)

// membership is a consumer under one name, from joining until it leaves or is
// taken for dead. Whoever takes over its entries removes it from the members
// first, for good. A consumer that finds itself removed (it was stopped, or could
// not reach the server for longer than its lease) joins anew under another name:
// whatever it still does in the old one's is refused.
type membership struct {
	consumer *consumer
	name     string
	ctx      context.Context // ends with errLeaseLost, or when draining is over
	cancel   context.CancelCauseFunc
	units    batcher[*unit]
	queries  batcher[*query]

	// unseen: entries may be pending for this member that it has not seen; and
	// unassigned: some may be in no lane yet, so the turn must not be passed. Both
	// are the reading goroutine's. orphaned: a lane belongs to one that is no member
	// any more.
	unseen, unassigned, orphaned bool

	// recheck asks the reading goroutine to set unseen.
	recheck atomic.Bool

	mu   sync.Mutex
	held map[string]*delivery // by entry ID: offered and not ended
}

var (
	errDraining  = errors.New("subscription was closed before the message was done")
	errLeaseLost = fmt.Errorf("consumer lost its lease: %w", dedup.ErrLeaseLost)
)

// lost reports whether the member was taken for dead.
func (m *membership) lost() bool { return context.Cause(m.ctx) == errLeaseLost } //nolint:errorlint // the very value

// newName names a consumer: by its host, for people, and at random, because no
// consumer of the past may ever have had the name. By the prefix others know that it
// is dead when it is no member.
func newName() string {
	host, _ := os.Hostname()
	return fmt.Sprintf("hapax-%s-%d-%s", strings.ReplaceAll(host, " ", "-"), os.Getpid(), strings.ToLower(rand.Text()[:12]))
}

// join registers a new member.
func (c *consumer) join(ctx context.Context) (*membership, error) {
	m := &membership{consumer: c, name: newName(), held: map[string]*delivery{}}
	m.units.run, m.units.limit = m.commit, commitBatch
	m.queries.run, m.queries.limit = m.answer, lookupBatch
	err := c.broker.insist(ctx, func() error { _, err := m.beat(ctx, true, nil); return err })
	if err != nil {
		return nil, fmt.Errorf("join group %q: %w", c.subscription.Group, permission(c.broker.config, err))
	}
	m.ctx, m.cancel = context.WithCancelCause(c.values)
	return m, nil
}

// beat renews the lease, and the entries given: those that the consumer has held
// for so long that others might take them for forgotten. It returns those whose
// message is gone from the stream. dedup.ErrLeaseLost when the member was taken
// for dead.
func (m *membership) beat(ctx context.Context, join bool, entries []string) (gone []string, err error) {
	c := m.consumer
	args := make([]any, 0, 4+len(entries))
	args = append(args, m.name, c.subscription.Group, c.broker.config.Lease.Milliseconds(), flag(join))
	for _, entry := range entries {
		args = append(args, entry)
	}
	gone, err = beatScript.Run(ctx, c.broker.client, []string{c.keys.members, c.topic}, args...).StringSlice()
	if errors.Is(err, redis.Nil) {
		return nil, dedup.ErrLeaseLost
	}
	return gone, err
}

// leave hands what the member still holds to the others.
func (m *membership) leave(ctx context.Context) error {
	k := &m.consumer.keys
	err := leaveScript.Run(ctx, m.consumer.broker.client,
		[]string{k.members, m.consumer.topic, k.turn, k.waiting, k.mail + m.name}, m.name, m.consumer.subscription.Group).Err()
	if err != nil {
		return fmt.Errorf("leave group %q: %w", m.consumer.subscription.Group, err)
	}
	return nil
}

func flag(set bool) int {
	if set {
		return 1
	}
	return 0
}
