package scaffold

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/module"

	"github.com/hapax-go/hapax/dedup"
)

// Options say what service is wanted.
type Options struct {
	// Name names the service, its Kubernetes objects and its image. It is part of
	// every event's identity.
	Name string
	// Module is the Go module's path. Default example.com/NAME.
	Module string
	// Broker is the active one, by its name in the rules table. Default sqlite.
	Broker string
	// SQL is the service's own database: none, postgres, mysql or sqlite.
	// Default none.
	SQL string
	// Framework is where the service has the framework from.
	Framework Framework
}

// Databases lists what SQL may be.
var Databases = []string{"none", "postgres", "mysql", "sqlite"}

// Brokers lists the brokers of the rules table, the embedded one first.
func Brokers() []string {
	names := []string{embedded}
	for _, rule := range dedup.Rules {
		if rule.Broker != embedded {
			names = append(names, rule.Broker)
		}
	}
	return names
}

const embedded = "sqlite"

// dnsLabel is what Kubernetes takes for a name, short enough for what is appended
// to it.
var dnsLabel = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$`)

// CheckName says what is wrong with a service's name.
func CheckName(name string) error {
	if !dnsLabel.MatchString(name) {
		return fmt.Errorf("name is %q, expected small letters, digits and dashes, a letter first, 40 at most: it names Kubernetes objects too", name)
	}
	if slices.Contains(noText, name) {
		return fmt.Errorf("name is %q, which YAML does not read as text, and manifests are YAML: choose another", name)
	}
	return nil
}

// noText are the words that YAML 1.1, which Kubernetes' tools read, takes for other than
// text.
var noText = []string{"y", "yes", "n", "no", "on", "off", "true", "false", "null"}

// WithDefaults returns the options with every empty field filled in.
func (o Options) WithDefaults() Options {
	if o.Module == "" {
		o.Module = "example.com/" + o.Name
	}
	if o.Broker == "" {
		o.Broker = embedded
	}
	if o.SQL == "" {
		o.SQL = "none"
	}
	return o
}

// Check says what is wrong with options that are filled in.
func (o Options) Check() error {
	if err := CheckName(o.Name); err != nil {
		return err
	}
	if err := CheckModule(o.Module); err != nil {
		return err
	}
	if !slices.Contains(Brokers(), o.Broker) {
		return fmt.Errorf("broker is %q, expected one of %s", o.Broker, strings.Join(Brokers(), ", "))
	}
	if !slices.Contains(Databases, o.SQL) {
		return fmt.Errorf("sql is %q, expected one of %s", o.SQL, strings.Join(Databases, ", "))
	}
	if o.Name == "migrate" && o.SQL != "none" {
		return fmt.Errorf("name is %q, which is the command that makes the service's own tables, and would take its place in bin and in the image: choose another", o.Name)
	}
	return nil
}

// CheckModule says what is wrong with a module's path.
func CheckModule(path string) error {
	if err := module.CheckImportPath(path); err != nil {
		return fmt.Errorf("module is %q, expected a path such as example.com/orders: %w", path, err)
	}
	whose := ""
	switch {
	case path == frameworkModule:
		whose = "the framework's own"
	case slices.Contains(goWords, path), slices.Contains(strings.Split(path, "/"), "vendor"):
		whose = "kept for Go itself"
	case standard(path):
		whose = "a package of Go's standard library"
	}
	if whose != "" {
		return fmt.Errorf("module is %q, which is %s and does not build as another module: expected a path such as example.com/orders", path, whose)
	}
	return nil
}

// goWords are the words that go.mod and the go command take for other than a module's path,
// without their being packages.
var goWords = []string{"C", "all", "go", "toolchain"}

// standard reports whether a path is that of a package, or of packages, that come with Go.
// Those have no dot in front. Without a go command nothing is known.
func standard(path string) bool {
	if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") {
		return false
	}
	command := exec.Command("go", "list", "-find", "-e", "-f", "{{.Standard}}", "--", path)
	command.Dir, command.Env = os.TempDir(), append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	output, err := command.Output()
	return err == nil && strings.HasPrefix(string(output), "true")
}
