package framework

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hapax-go/hapax/dedup"
)

type expecting struct {
	dedup.Plain
	heard []dedup.ID
}

func (e *expecting) Expect(id dedup.ID) { e.heard = append(e.heard, id) }

// A ledger hears of an ID before it is asked also in a service, whose strategies are
// wrapped; and one that does not want to hear it need not.
func TestWrappedStrategiesAreToldWhatToExpect(t *testing.T) {
	strategy := &expecting{}
	wrapped := func(strategy dedup.Strategy) dedup.Expecter {
		return observedStrategy{namedStrategy{strategy, nil}, nil}
	}
	wrapped(strategy).Expect(dedup.ID{7})
	require.Equal(t, []dedup.ID{{7}}, strategy.heard)
	wrapped(dedup.Plain{}).Expect(dedup.ID{7})
}
