package fault

import "os"

type pipe struct{ read, write *os.File }

// pipeSet opens pipes until one fails, so that the error is looked at once.
type pipeSet struct {
	opened []pipe
	err    error
}

func (s *pipeSet) open() (p pipe) {
	if s.err != nil {
		return pipe{}
	}
	if p.read, p.write, s.err = os.Pipe(); s.err == nil {
		s.opened = append(s.opened, p)
	}
	return p
}

func (s *pipeSet) close() {
	for _, p := range s.opened {
		_ = p.read.Close()
		_ = p.write.Close()
	}
}
