package scaffold

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
)

// goVersion is the language version of a service that asks for a released
// framework; beside a checkout it is the checkout's own.
const goVersion = "1.26.0"

// moduleFiles makes go.mod, and go.sum where it is known.
func moduleFiles(o Options) ([]File, error) {
	if o.Framework.Version != "" {
		text := fmt.Sprintf("module %s\n\ngo %s\n\nrequire %s %s\n", o.Module, goVersion, frameworkModule, o.Framework.Version)
		return []File{{Path: "go.mod", Data: []byte(text)}}, nil
	}
	sums, err := os.ReadFile(filepath.Join(o.Framework.Folder, "go.sum"))
	if err != nil {
		return nil, fmt.Errorf("read checksums of the framework: %w", err)
	}
	path := filepath.Join(o.Framework.Folder, "go.mod")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read requirements of the framework: %w", err)
	}
	theirs, err := modfile.Parse(path, data, nil)
	if err != nil {
		return nil, fmt.Errorf("read requirements of the framework: %w", err)
	}
	made := &modfile.File{}
	if err := made.AddModuleStmt(o.Module); err != nil {
		return nil, fmt.Errorf("make go.mod: %w", err)
	}
	if err := made.AddGoStmt(theirs.Go.Version); err != nil {
		return nil, fmt.Errorf("make go.mod: %w", err)
	}
	if err := made.AddReplace(frameworkModule, "", o.Framework.Folder, ""); err != nil {
		return nil, fmt.Errorf("make go.mod: %w", err)
	}
	made.Replace[0].Syntax.Before = []modfile.Comment{
		{Token: "// The framework is a folder on this machine. Once a released version is to be had,"},
		{Token: "// remove this line, set the version below, and run go mod tidy."},
	}
	// Without a network only versions that are pinned already can be had.
	requirements := []*modfile.Require{{}}
	requirements[0].Mod.Path, requirements[0].Mod.Version = frameworkModule, "v0.0.0"
	for _, theirs := range theirs.Require {
		requirement := *theirs
		requirement.Syntax, requirement.Indirect = nil, !direct(requirement.Mod.Path)
		requirements = append(requirements, &requirement)
	}
	made.SetRequireSeparateIndirect(requirements)
	made.Cleanup()
	text := modfile.Format(made.Syntax)
	return []File{{Path: "go.mod", Data: text}, {Path: "go.sum", Data: sums}}, nil
}

// Tidy leaves in go.mod and go.sum what the service needs, of all that the framework
// does. It uses the module cache only: nobody should wait for a network here. When
// that has too little, it fails, and the files stay as they are, which works too.
func Tidy(ctx context.Context, folder string) error {
	command := exec.CommandContext(ctx, "go", "mod", "tidy")
	command.Dir, command.Env = folder, append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=mod")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("tidy go.mod: %w: %s", err, output)
	}
	return nil
}

// OutsideWorkspace reports whether a service lies below a go.work that does not name it:
// Go then builds nothing of it.
func OutsideWorkspace(ctx context.Context, folder string) bool {
	command := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}") // the modules that are built here
	command.Dir = folder
	output, err := command.Output()
	own, statErr := os.Stat(folder)
	if err != nil || statErr != nil {
		return false // nothing is known
	}
	for module := range strings.Lines(string(output)) {
		if its, err := os.Stat(strings.TrimSuffix(module, "\n")); err == nil && os.SameFile(its, own) {
			return false
		}
	}
	return true
}

// direct reports whether a service imports packages of a module itself.
func direct(path string) bool {
	return path == "github.com/ThreeDotsLabs/watermill" || path == "github.com/stretchr/testify"
}
