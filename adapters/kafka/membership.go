package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// membership is a client that is a member of the group, until it has left.
type membership struct {
	*kgo.Client
	// end ends the client's context, and with it the requests in which the client
	// waits for other members. Leaving the group does not.
	end context.CancelFunc
}

// join makes the consumer a new member of the group.
func (c *consumer) join() error {
	life, end := context.WithCancel(context.Background())
	client, err := c.broker.config.newClient(roleConsumer, append(c.options(), kgo.WithContext(life))...)
	if err != nil {
		end()
		return fmt.Errorf("open consumer: %w", err)
	}
	c.client.Store(&membership{client, end})
	return nil
}

// leaveGroup leaves the group and closes the client. The partitions are given up and
// forgotten before: what the client says of them on its way out is no news.
//
// franz-go does not leave while it joins: it waits for the answer, which the group
// gives when all the other members have joined too, or when the rebalance timeout is
// over. So after a while the client is ended, and the leave is sent in its name. Not
// earlier: the leave makes the group refuse the pending request, and franz-go would
// answer by joining as a new member. And not by the client itself, which sends nothing
// any more. Without it the member would stay for a session timeout, and be given
// partitions.
func (c *consumer) leaveGroup(m *membership) {
	defer m.end()
	patience := c.broker.config.closeTimeout() / 2
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	err := m.LeaveGroupContext(ctx)
	late := errors.Is(err, context.DeadlineExceeded)
	if late {
		m.end()
	}
	m.CloseAllowingRebalance()
	if member, _ := m.GroupMetadata(); late && member != "" {
		ctx, cancel := context.WithTimeout(c.ctx, patience)
		defer cancel()
		err = c.sendLeave(ctx, member)
	}
	if err != nil {
		c.logger.Debug("leave group", "error", err)
	}
}

// sendLeave tells the group that a member is gone.
func (c *consumer) sendLeave(ctx context.Context, member string) error {
	group := c.subscription.Group
	if c.broker.config.ServerSideGroups {
		request := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		request.Group, request.MemberID, request.MemberEpoch = group, member, -1
		answer, err := request.RequestWith(ctx, c.broker.client)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(answer.ErrorCode)
	}
	request := kmsg.NewPtrLeaveGroupRequest()
	request.Group, request.MemberID = group, member
	leaving := kmsg.NewLeaveGroupRequestMember() // instead of MemberID, from version 3 on
	leaving.MemberID = member
	request.Members = append(request.Members, leaving)
	answer, err := request.RequestWith(ctx, c.broker.client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(answer.ErrorCode)
}
