//go:build amd64 || arm64

package memory

// prefetch tells the processor that the home of a hash will be read, without waiting
// for it. It reads the index without the shard's lock: one that grows meanwhile makes
// it fetch something else, which it can do with any address.
//
// It is in assembly because Go has no other way to say this, and a read in its place
// would be waited for at the next lock.
//
//go:noescape
func prefetch(x *index, hash uint32)
