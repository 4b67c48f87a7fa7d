package process

import (
	"os"
	"strconv"
	"strings"
	"sync"
)

// Positions in /proc/<pid>/stat, counted from the field after the command name.
const (
	fieldState   = 0
	fieldParent  = 1
	fieldThreads = 17
	fieldStarted = 19
)

// statField reads one field of /proc/<pid>/stat, or "" when the process is gone.
func statField(pid, field int) string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// The command name is in brackets and may hold spaces and brackets itself:
	// only the last closing one ends it.
	_, rest, ok := strings.Cut(string(data[max(0, strings.LastIndexByte(string(data), ')')):]), ") ")
	fields := strings.Fields(rest)
	if !ok || field >= len(fields) {
		return ""
	}
	return fields[field]
}

func manyThreads(pid int) bool {
	n, err := strconv.Atoi(statField(pid, fieldThreads))
	return err == nil && n > 1
}

var bootID = sync.OnceValue(func() string {
	data, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data))
})
