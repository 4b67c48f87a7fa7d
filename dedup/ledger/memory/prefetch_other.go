//go:build !amd64 && !arm64

package memory

func prefetchHome(*index, uint32) {}

func prefetchMark(*mark) {}
