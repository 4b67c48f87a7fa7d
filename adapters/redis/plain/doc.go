// Package plain is Redis without Hapax, for comparison: the official Watermill
// adapter as its documentation has it, and a loop by hand on the client.
package plain
