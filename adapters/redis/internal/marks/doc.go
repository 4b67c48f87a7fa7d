// Package marks keeps the IDs of processed events in Redis: about 23 bytes an ID,
// found with one look at one key, expiring without a scan.
//
// # Layout
//
// A set of marks is many short strings, the buckets. A bucket is a row of records of 18
// bytes: an ID without its first byte (15), the slice of time in which it was marked (1)
// and 16 bits of the payload's digest. A bucket has free places at its end, up to the next
// size in which the server's allocator has memory to give: they cost nothing, and a mark
// is written into one in place, which keeps the append-only file and the replicas' stream
// small. A record whose slice is 0 is free.
//
// The first byte is not stored because the bucket's number implies it: there are at
// least 256 buckets. So an ID is always compared in full (I8).
//
// Measured on a million IDs with MEMORY USAGE: 18 bytes, 2 for the rounding of the
// allocator, 3 for a bucket's key. A set has 72 bytes an ID, a string key with a TTL
// 113; hashes small enough to be stored as one block have 25, because each field of
// them also has a length on either side.
//
// # Growth
//
// The number of buckets follows the number of IDs by linear hashing. The directory is
// one string, "level split cursor passed count seen": level is the number of buckets at
// the start of the round; those below split have been divided in two; count is how many
// records there are; seen is the slice of time in which it was stored. While there are
// more than 28 records for a bucket, the next bucket in turn is divided, at most 16 in a
// call, so no call ever moves more than some hundred records. A scripting language pays
// for every byte of a string that it is handed: larger buckets would be a little smaller
// in memory and slower.
//
// # Time
//
// A window has eight slices. A mark lives in its own slice and in the next eight.
// There are no generations, so there is no boundary between two of them at which
// two copies could miss each other: an ID has one place, and a script that looks
// at it and then writes to it is alone on the server. Dead marks are not found by
// lookups. They are removed when their bucket is divided, or visited by the cursor,
// which goes through all buckets at most once a slice, two a call that marks; and a new
// mark is written over one when its bucket is three quarters full. So at a steady rate
// there are some dead marks at any time: about 32 bytes for each living ID.
//
// # Other windows
//
// The length of a slice depends on the window, so each window has a set of its own,
// which handlers share. A hash for each handler tells under which windows it has marked,
// and the slice in which it last did. A script looks into the other sets first, as long
// as they can hold marks of its handler: usually there are none, and the hash is all it
// costs. A set that is over is removed, a thousand buckets a call, by a handler whose
// hash still names it.
//
// # Numbers of slices
//
// Slices are numbered modulo 255, so a dead mark must be removed before its number
// comes again: where calls are so rare that two a call would not do, the cursor visits
// more, and after a hundred slices without a mark all are deleted.
package marks
