package bench

import (
	"runtime"

	"github.com/klauspost/cpuid/v2"
)

// Machine says where the figures come from.
type Machine struct {
	CPU string `json:"cpu"`
	// CPUs is how many of them the process may use.
	CPUs int    `json:"cpus"`
	OS   string `json:"os"`
	Arch string `json:"arch"`
	Go   string `json:"go"`
}

func thisMachine() Machine {
	return Machine{
		CPU: cpuid.CPU.BrandName, CPUs: runtime.GOMAXPROCS(0),
		OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(),
	}
}
