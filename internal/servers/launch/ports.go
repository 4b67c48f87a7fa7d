package launch

import (
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
)

// port is a port by purpose. The name is both the environment variable that
// moves it and the variable in compose.yaml.
type port struct {
	variable  string
	preferred int // below 32768: the kernel gives out the higher ones to clients
}

const portsToTry = 200

// picker gives out free loopback ports, none twice.
type picker struct {
	mu       sync.Mutex
	reserved map[int]string // by the server that had the port before
	given    map[int]bool
}

// pick returns a port for each purpose: the one it had before, else the one in
// the environment, else the preferred one; if a stranger listens there, the next
// free one.
func (p *picker) pick(server string, want []port, before map[string]int) (map[string]int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.given == nil {
		p.given = map[int]bool{}
	}
	ports := map[string]int{}
	for _, w := range want {
		first := w.preferred
		if had := before[w.variable]; had != 0 {
			first = had
		}
		if value := os.Getenv(w.variable); value != "" {
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > 65535 {
				return nil, fmt.Errorf("%s=%q: expected a port from 1 to 65535", w.variable, value)
			}
			first = n
		}
		n := first
		for p.taken(n, server) {
			if n++; n >= min(first+portsToTry, 65536) {
				return nil, fmt.Errorf("no free port from %d to %d: set %s", first, n-1, w.variable)
			}
		}
		p.given[n] = true
		ports[w.variable] = n
	}
	return ports, nil
}

func (p *picker) taken(n int, by string) bool {
	owner, reserved := p.reserved[n]
	return p.given[n] || reserved && owner != by || !free(n)
}

func free(n int) bool {
	l, err := net.Listen("tcp", local(n))
	return err == nil && l.Close() == nil
}

func local(n int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(n)) }

// environment writes ports the way compose.yaml reads them.
func environment(ports map[string]int) []string {
	var env []string
	for _, variable := range slices.Sorted(maps.Keys(ports)) {
		env = append(env, fmt.Sprintf("%s=%d", variable, ports[variable]))
	}
	return env
}
