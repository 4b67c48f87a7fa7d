package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// RequireReal reports whether a missing server is a failure: REQUIRE_REAL=1.
func RequireReal() bool { return os.Getenv("REQUIRE_REAL") == "1" }

// Require returns the address of a real server for a test, and notes in the
// report that the test ran on it. Without the server the test is noted as not
// run, with the reason, and skipped; with REQUIRE_REAL=1 it fails.
func Require(t testing.TB, name string) Address {
	t.Helper()
	a, err := locate(name)
	if err == nil {
		note(t, Entry{Server: name, Version: a.Version, Address: strings.Join(a.Hosts, ","), Origin: a.Origin})
		return a
	}
	NotRun(t, name, err)
	return Address{}
}

// RequirePart is Require for what not every server of a kind has.
func RequirePart(t testing.TB, a Address, part string, has bool) {
	t.Helper()
	if !has {
		NotRun(t, a.Name, fmt.Errorf("%s at %s has no %s: bring one up with `make servers`", a.Name, strings.Join(a.Hosts, ","), part))
	}
}

// RequireProgram returns the path of a server's program, for a test that runs one of
// its own.
func RequireProgram(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		NotRun(t, name, fmt.Errorf("%s is not installed, and the test needs a server of its own", name))
	}
	return path
}

// NotRun ends a test that cannot run for want of a server. The report says why; with
// REQUIRE_REAL=1 the test fails.
func NotRun(t testing.TB, name string, err error) {
	t.Helper()
	note(t, Entry{Server: name, NotRun: err.Error()})
	if RequireReal() {
		t.Fatalf("REQUIRE_REAL=1: %v", err)
	}
	t.Skipf("not run: %v", err)
}

// OnRequest ends a test that runs only when an environment variable asks for it, since
// it takes minutes, or restarts what others use. The report says so.
func OnRequest(t testing.TB, variable, why string) {
	t.Helper()
	if os.Getenv(variable) == "" {
		note(t, Entry{Server: "on request with " + variable, NotRun: why})
		t.Skipf("not run: %s; set %s", why, variable)
	}
}

// RanInProcess notes in the report that a test ran on an embedded or in-process
// server, such as kfake or miniredis, instead of a real one.
func RanInProcess(t testing.TB, server, version string) {
	t.Helper()
	note(t, Entry{Server: server, Version: version, Origin: InProcess})
}

func note(t testing.TB, e Entry) {
	t.Helper()
	e.Test = t.Name()
	e.Package = testedPackage()
	dir, err := Dir()
	if err == nil {
		err = e.append(dir)
	}
	if err != nil {
		t.Logf("the report at the end will miss this test: %v", err)
	}
}

// startedIn is where `go test` has started the test binary: in its package's folder.
var startedIn, _ = os.Getwd()

// testedPackage is the package under test, whoever called for it, relative to the
// module: the same words `go test` uses.
func testedPackage() string {
	if root, err := ModuleRoot(startedIn); err == nil {
		if relative, err := filepath.Rel(root, startedIn); err == nil {
			return "./" + filepath.ToSlash(relative)
		}
	}
	return startedIn
}
