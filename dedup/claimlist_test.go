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
	// So are those of claims that come later: each is in it until it is removed.
	third, fourth := &ledgerClaim{}, &ledgerClaim{}
	list.add(third)
	list.add(fourth)
	require.ElementsMatch(t, []*ledgerClaim{third, fourth}, list.places)
	require.True(t, list.remove(third))
	require.True(t, list.remove(fourth))
	require.LessOrEqual(t, len(list.places), 2)
	require.Equal(t, []*ledgerClaim{nil, nil}, list.places, "what has ended is not kept")
}
