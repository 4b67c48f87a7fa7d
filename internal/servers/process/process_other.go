//go:build !linux

package process

import "context"

// Start cannot start a process here.
func Start(Spec) error { return ErrUnsupported }

// Stop cannot stop a process here.
func Stop(context.Context, string, bool) error { return ErrUnsupported }

// Run cannot run a command here.
func Run(context.Context, Spec) error { return ErrUnsupported }

// Lock does nothing here: servers come from Docker, which takes care of itself.
func Lock(context.Context, string) (unlock func() error, err error) {
	return func() error { return nil }, nil
}

// Lookup cannot resolve a system user here.
func Lookup(string) (uid, gid int, err error) { return 0, 0, ErrUnsupported }

func (identity) alive() bool { return false }
