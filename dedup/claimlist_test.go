package dedup

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A claim is removed once, and its place is used again: a list does not grow with the
// events that went by.
func TestAClaimListUsesItsPlacesAgain(t *testing.T) {
	var list claimList
	first, second := &ledgerClaim{}, &ledgerClaim{}
	require.False(t, list.remove(first), "nothing is in it")
	for range 100 {
		list.add(first)
		list.add(second)
		require.True(t, list.remove(first))
		require.False(t, list.remove(first), "it was removed before")
		require.True(t, list.remove(second))
	}
	require.LessOrEqual(t, len(list.places), 2)
	require.Equal(t, []*ledgerClaim{nil, nil}, list.places, "what has ended is not kept")
}
