//go:build unix && !linux

package fault

import "syscall"

// processAttributes puts the child in a group of its own. There is no death
// signal here: a child whose harness died sees its standard input end (Attach).
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
