//go:build amd64 || arm64

package memory

// These are in assembly because Go has no other way to tell the processor what will
// be needed, and a read in their place would be waited for at the next lock.

// prefetchHome fetches the home of a hash. It reads the index without the shard's
// lock: one that grows meanwhile makes it fetch something else, which does no harm
// with any address.
//
//go:noescape
func prefetchHome(x *index, hash uint32)

// prefetchMark fetches the last cache line of a mark.
//
//go:noescape
func prefetchMark(m *mark)
