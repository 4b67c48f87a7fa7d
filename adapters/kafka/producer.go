package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// open makes sure that there is a producer, and that it has its ID: after some errors
// it asks for it again, and would do that at the begin of the next transaction, which
// nothing could end while Kafka is away.
func (t *transactor) open() error {
	if err := t.openClient(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.ctx, t.consumer.broker.config.TransactionTimeout)
	defer cancel()
	if _, _, err := t.client.ProducerID(ctx); err != nil {
		t.discard()
		return fmt.Errorf("initialize transactions of %s: %w", t.id, err)
	}
	return nil
}

// openClient makes a producer where there is none. It takes the transactional.id over:
// the broker ends what the one before has left open, and refuses whatever still comes
// from it.
func (t *transactor) openClient() error {
	if t.client != nil {
		return nil
	}
	b := t.consumer.broker
	if t.relook {
		if err := b.readyIDLog(t.ctx, t.consumer.idLog, t.consumer.name, t.window); err != nil {
			return err
		}
		t.relook = false
	}
	options := append(b.config.producing(roleProducer, b.letters),
		kgo.TransactionalID(t.id),
		kgo.TransactionTimeout(b.config.TransactionTimeout),
		// Outputs are flushed when the transaction ends; until then they may
		// gather, but not for long, because lanes wait for them.
		kgo.ProducerLinger(2*time.Millisecond),
		// The broker finishes a transaction after it has answered, and refuses
		// the next one meanwhile.
		kgo.ConcurrentTransactionsBackoff(2*time.Millisecond),
	)
	if !b.transactionsV2 {
		versions := kversion.Stable()
		versions.SetMaxKeyVersion(kmsg.TxnOffsetCommit.Int16(), 4)
		options = append(options, kgo.MaxVersions(versions))
	}
	client, err := b.config.newClient(roleProducer, options...)
	if err != nil {
		return fmt.Errorf("open transactional producer: %w", err)
	}
	t.client = client
	return nil
}

// discard closes the producer; the next transaction opens another.
func (t *transactor) discard() {
	if t.client != nil {
		t.client.UnsafeAbortBufferedRecords()
		t.client.Close()
		t.client = nil
	}
}

// commitOffsets adds offsets to the transaction in the name of the member
// (KIP-447). franz-go's own way of doing it would commit how far was polled, and
// would move the consumer back on an abort.
func (tx *transaction) commitOffsets(ctx context.Context, member string, generation int32, offsets map[*partition]int64) error {
	if member == "" || generation < 0 {
		// Without a member the broker would not fence.
		return fmt.Errorf("commit offsets: the consumer is not in the group at present: %w", errAborted)
	}
	id, epoch, err := tx.client.ProducerID(ctx)
	if err != nil {
		return fmt.Errorf("commit offsets: %w", err)
	}
	group := tx.consumer.subscription.Group
	if !tx.consumer.broker.transactionsV2 {
		add := kmsg.NewPtrAddOffsetsToTxnRequest()
		add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = tx.id, id, epoch, group
		answer, err := add.RequestWith(ctx, tx.client)
		if err == nil {
			err = kerr.ErrorForCode(answer.ErrorCode)
		}
		if err != nil {
			return fmt.Errorf("add offsets to transaction: %w", err)
		}
	}
	request := kmsg.NewPtrTxnOffsetCommitRequest()
	request.TransactionalID, request.ProducerID, request.ProducerEpoch = tx.id, id, epoch
	request.Group, request.MemberID, request.Generation = group, member, generation
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic = tx.consumer.name
	for p, next := range offsets {
		part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		part.Partition, part.Offset = p.number, next
		topic.Partitions = append(topic.Partitions, part)
	}
	request.Topics = append(request.Topics, topic)
	answer, err := request.RequestWith(ctx, tx.client)
	if err != nil {
		return fmt.Errorf("commit offsets: %w", err)
	}
	for _, topic := range answer.Topics {
		for _, part := range topic.Partitions {
			if err := kerr.ErrorForCode(part.ErrorCode); err != nil {
				return tx.judge(ctx, member, generation, err)
			}
		}
	}
	return nil
}

// judge finds out what the refusal of an offset commit means. A member unknown to
// the group has lost everything. One of another generation may be in the middle of
// a rebalance and keep its partitions: it knows the new generation soon, or, if the
// rebalance lasts, after some more tries. A member that never learns of one is cut off,
// and the group forgets it.
func (tx *transaction) judge(ctx context.Context, member string, generation int32, err error) error {
	switch {
	case errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.FencedInstanceID), errors.Is(err, kerr.GroupIDNotFound), errors.Is(err, kerr.FencedMemberEpoch):
		return fmt.Errorf("commit offsets: %w: %w", err, errRefused)
	case rebalancing(err):
	default:
		return fmt.Errorf("commit offsets: %w", err)
	}
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		if m, g := tx.consumer.client.Load().GroupMetadata(); m != member || g != generation || tx.isLeaving() {
			return fmt.Errorf("commit offsets: %w", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done(): // not errRefused: nobody would hand out again what was acked
			return fmt.Errorf("commit offsets: %w", err)
		}
	}
}

// isLeaving reports whether a partition of the transaction is being handed over: the
// rebalance waits for that, so it must not be waited for.
func (tx *transaction) isLeaving() bool {
	for p := range tx.partitions() {
		if p.isLeaving() {
			return true
		}
	}
	return false
}

// resolve finds out how a transaction ended whose commit was not answered, or
// answered with an error. A new producer of the same transactional.id makes the
// broker decide, one way or the other, and then the log of processed IDs tells. The
// time that was left for the commit does not count: it may be over already.
func (tx *transaction) resolve(why error) error {
	if errors.Is(why, kerr.OperationNotAttempted) || errors.Is(why, kerr.TransactionAbortable) {
		return tx.abort(why)
	}
	tx.consumer.broker.counters.unknown.Add(1)
	tx.consumer.logger.Warn("the outcome of a transaction is unknown: asking the log of processed IDs", "messages", tx.messages(), "error", why)
	tx.discard()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := tx.open()
		if err == nil {
			var committed bool
			if committed, err = tx.consumer.broker.readable(tx.ctx, tx.logged[0]); err == nil {
				tx.consumer.logger.Info("the outcome of a transaction is known", "committed", committed)
				if committed {
					return nil
				}
				return fmt.Errorf("%w: %w", why, errAborted)
			}
		}
		if tx.ctx.Err() == nil {
			tx.consumer.logger.Warn("find out how a transaction ended: trying again", "error", err)
		}
		select {
		case <-time.After(pause):
		case <-tx.ctx.Done():
			return fmt.Errorf("%w: its outcome is unknown: %w: %w", why, err, errStopped)
		}
	}
}
