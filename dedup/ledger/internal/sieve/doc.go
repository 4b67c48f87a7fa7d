// Package sieve tells in which of many sets an ID may be, without asking the
// database that keeps them.
//
// A set gets a Bloom [Filter] when it is closed, and never changes after. So what
// its filter rules out stays ruled out, for every process that has it and for as
// long as the set lives; what it lets through, a new ID of some thousands, has to
// be looked up. Nothing is ever taken for a duplicate because of a filter.
//
// A [Sieve] holds the filters of all sets, 64 in a group: word n of a group has
// bit n of each of its filters. So an ID costs eight reads of memory a group and
// not a set.
package sieve
