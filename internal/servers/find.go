package servers

import (
	"fmt"
	"net"
	"os"
	"time"
)

// dialTimeout bounds the wait for a server that is there: one that is gone refuses at once,
// one that has much to do lets a new connection wait.
const dialTimeout = 15 * time.Second

// Find returns the address of a server and whether there is one. An address in
// the environment is taken as it is; one in the state file counts only while
// something listens there.
func Find(name string) (Address, bool) {
	a, err := locate(name)
	return a, err == nil
}

// FromEnv returns the address given in the environment; ok is false when none is.
func FromEnv(name string) (a Address, ok bool, err error) {
	value := os.Getenv(Variable(name))
	if value == "" {
		return Address{}, false, nil
	}
	a, err = ParseAddress(name, value)
	if err != nil {
		return Address{}, true, fmt.Errorf("%s: %w", Variable(name), err)
	}
	a.Origin = FromEnvironment
	return a, true, nil
}

// locate is Find with the reason why not.
func locate(name string) (Address, error) {
	if err := CheckName(name); err != nil {
		return Address{}, err
	}
	if a, given, err := FromEnv(name); given {
		return a, err
	}
	record, err := recordOf(name)
	if err != nil {
		return Address{}, err
	}
	// A cluster with a node down is still there, so one open door is enough.
	for _, host := range record.Hosts {
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp", host, dialTimeout); err == nil {
			return record.Address, conn.Close()
		}
	}
	return Address{}, fmt.Errorf("%s was brought up but no longer listens (%w): run `make servers` again", name, err)
}

func recordOf(name string) (Record, error) {
	dir, err := Dir()
	if err != nil {
		return Record{}, err
	}
	state, err := ReadState(dir)
	if err != nil {
		return Record{}, err
	}
	record, ok := state[name]
	if !ok {
		return Record{}, fmt.Errorf("no %s server: run `make servers`, or give its address in %s", name, Variable(name))
	}
	return record, nil
}
