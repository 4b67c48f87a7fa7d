package fault

import "syscall"

// processAttributes puts the child in a group of its own, and has the kernel
// kill it when the thread that started it ends; supervise keeps that thread.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
