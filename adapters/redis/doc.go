// Package redis is the broker on Redis Streams, 6.2 or later: a topic is a stream of
// the same name, in the format of the official watermill-redisstream.
//
// It promises:
//
//   - every group gets every message at least once, from the stream's first entry
//     on; its members share them;
//   - messages with equal keys are handed out one at a time and in order, whoever
//     of the members gets them, as long as all members of the group are Hapax's;
//   - with the strategy "xack", ownership check, mark, outputs and acknowledgement
//     are one step of the server, a Lua script, for many deliveries at a time.
//
// # Who owns an entry
//
// Liveness is a consumer's, not an entry's: a sorted set of members, by the end of
// their lease. Whoever takes over from a member removes it from the set first, in
// the same script, and a commit of one that is not in the set is refused whole (I5).
// A consumer that finds itself removed joins anew under another name. Entries that
// are held long are also renewed with XCLAIM, so that other programs in the group
// leave them alone.
//
// # Order
//
// Members take turns to read. What was read is assigned to lanes, one for each key,
// before anybody reads further; a lane with entries in flight belongs to the member
// that has them, and later entries of the key are given to that one. A member alone
// keeps the turn, and messages without a key are assigned nothing.
//
// # What is atomic
//
//   - Single: the commit, whole: ownership, mark, outputs, acknowledgement. What a
//     crash of the server forgets is what its append-only file had not written.
//   - Sentinel: the same on the master. Replication is asynchronous: a fail-over
//     forgets the last publishes and the last commits, each as a whole. So every
//     message that survived has its effects once: a forgotten commit's mark, outputs
//     and acknowledgement are gone together, and the message comes again. A message
//     that was forgotten is lost, although Publish had returned;
//     min-replicas-to-write bounds how many. Writes stand still for as long as the
//     sentinels take to agree, and are tried again by themselves but for Publish,
//     which returns the error.
//   - Cluster: the same, for outputs to streams with the input's hash tag, such as
//     "{shop}.orders" and "{shop}.shipments". Outputs to other streams live on other
//     nodes. They are published before the step that marks and acknowledges, under
//     a lease that keeps copies and members that were taken over from publishing. A
//     worker that dies between the two has published, and its heir does so again,
//     under the same derived IDs (I7): the next consumer's marks absorb that. Dead
//     letters, whose streams lie elsewhere too, can be there twice after such a death.
//
// # Connections
//
// ParseURL reads connection strings. TLS works in all modes, and a user of an access
// control list needs the rules of Permissions.
//
// # The window
//
// A window may be changed, also while instances are replaced: members of a group look at
// the marks made under each other's windows. A mark lasts for the window that it was made
// under. What a former window leaves is removed when the last of it is over.
//
// # Trimming
//
// Streams grow until Config.MaxLength or MaxAge trims what every group has
// acknowledged. An entry that somebody else removed before it was acknowledged is
// reported as lost: in the log, by Losses and by Check.
package redis
