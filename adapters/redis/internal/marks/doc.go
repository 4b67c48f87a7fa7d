// Package marks keeps the IDs of processed events in Redis: about 24 bytes an ID,
// found with one lookup, expiring without a scan.
//
// # Layout
//
// A small hash is stored as one block of memory, a listpack. A set of marks is
// many hashes, the buckets, each kept below the 128 fields at which Redis would
// change to a table several times as large. A field is an ID without its first
// byte; its value is the slice of time in which it was marked (one byte), 16 bits
// of the payload's digest and, in a ledger, 32 bits of the token that marked it.
//
// The first byte is not stored because the bucket's number implies it: there are
// at least 256 buckets. So an ID is always compared in full (I8).
//
// # Growth
//
// The number of buckets follows the number of IDs by linear hashing. The directory
// is one string, "level split cursor passed": level is the number of buckets at the
// start of the round; those below split have been divided in two. A bucket that has
// grown too long first loses its dead marks; if it is still long, the next bucket
// in turn is divided, one a time, so no call ever moves more than some hundred
// fields.
//
// # Time
//
// A window has eight slices. A mark lives in its own slice and in the next eight.
// There are no generations, so there is no boundary between two of them at which
// two copies could miss each other: an ID has one place, and a script that looks
// at it and then writes to it is alone on the server. Dead marks are not found by
// lookups; they are removed when their bucket is rewritten or visited by the
// cursor, which goes through all buckets once a slice, one bucket a call.
//
// Slices are numbered modulo 256. Marks of a set that nobody has written to for
// more than thirty windows may be taken for living ones until the cursor comes by:
// such an ID is remembered too long, never too short.
package marks
