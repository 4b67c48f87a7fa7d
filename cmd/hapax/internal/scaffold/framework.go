package scaffold

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"golang.org/x/mod/modfile"
)

// frameworkModule is the module that services import.
const frameworkModule = "github.com/hapax-go/hapax"

// Framework says where a service has the framework from: a released version, or a
// folder.
type Framework struct {
	// Version is a released version; empty: Folder.
	Version string
	// Folder is a checkout of the module, as an absolute path.
	Folder string
}

// ErrNoFramework: no released version and no checkout was found.
var ErrNoFramework = errors.New("this hapax command was not installed from a released version, and no checkout of " + frameworkModule +
	" was found above the working directory, above the command, or where it was built (which it does not know when it was built with -trimpath, as make build does): " +
	"clone https://" + frameworkModule + " if you have no checkout, and pass --replace PATH-OF-THE-CHECKOUT")

// Find says where new services have the framework from. A replace folder, if
// given, must be a checkout. Otherwise it is the version this command was installed
// from, when that is a released one; else the first checkout found above the
// working directory, above the command's own file, and where it was compiled.
func Find(replace string) (Framework, error) {
	if replace != "" {
		folder, err := filepath.Abs(replace)
		if err != nil {
			return Framework{}, fmt.Errorf("find framework: %w", err)
		}
		if err := checkout(folder); err != nil {
			return Framework{}, fmt.Errorf("find framework: --replace %s: %w", replace, err)
		}
		return Framework{Folder: folder}, nil
	}
	// A checksum says that the command was built from the module cache, and so
	// from a version that others can get too.
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Path == frameworkModule && info.Main.Sum != "" {
		return Framework{Version: info.Main.Version}, nil
	}
	var starts []string
	if here, err := os.Getwd(); err == nil {
		starts = append(starts, here)
	}
	if command, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(command); err == nil {
			command = real
		}
		starts = append(starts, filepath.Dir(command))
	}
	if _, source, _, ok := runtime.Caller(0); ok {
		starts = append(starts, filepath.Dir(source)) // not a path when built with -trimpath
	}
	for _, start := range starts {
		if folder := above(start); folder != "" {
			return Framework{Folder: folder}, nil
		}
	}
	return Framework{}, ErrNoFramework
}

// above is the nearest checkout at or above a folder, or "".
func above(folder string) string {
	for filepath.IsAbs(folder) {
		if checkout(folder) == nil {
			return folder
		}
		if folder == filepath.Dir(folder) {
			break
		}
		folder = filepath.Dir(folder)
	}
	return ""
}

// checkout says why a folder is not a checkout of the framework.
func checkout(folder string) error {
	data, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if err != nil {
		return fmt.Errorf("expected a checkout of %s: %w", frameworkModule, err)
	}
	if found := modfile.ModulePath(data); found != frameworkModule {
		return fmt.Errorf("found module %q, expected a checkout of %s", found, frameworkModule)
	}
	return nil
}
