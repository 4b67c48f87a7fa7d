package launch

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

//go:embed install.sh
var installScript string

// host is the machine: what it has, and what is installed on it. Installations
// run one at a time, because the package manager has one lock.
type host struct {
	mu      sync.Mutex
	log     string // folder for the output of installations
	refused error  // why packages cannot be installed at all, once known
}

// tool returns the first program that matches one of the patterns, after
// installing the first of the packages that can be had if none does. The second
// result says where the program came from.
func (h *host) tool(ctx context.Context, s *site, patterns []string, packages ...string) (path, from string, err error) {
	if path := find(patterns); path != "" {
		return path, origin(ctx, path), nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if path := find(patterns); path != "" { // installed while this server waited
		return path, origin(ctx, path), nil
	}
	var errs []error
	for _, name := range packages {
		s.step("installing package " + name)
		if err := h.install(ctx, name); err != nil {
			errs = append(errs, err)
			continue
		}
		if path := find(patterns); path != "" {
			return path, origin(ctx, path), nil
		}
		errs = append(errs, fmt.Errorf("package %s has none of %s", name, strings.Join(patterns, ", ")))
	}
	return "", "", fmt.Errorf("find %s: %w", filepath.Base(patterns[0]), errors.Join(errs...))
}

func (h *host) install(ctx context.Context, name string) error {
	if h.refused != nil {
		return h.refused
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		h.refused = errors.New("package not installed: no apt-get here")
		return h.refused
	}
	args := []string{"/bin/sh", "-c", installScript, "install", name}
	if os.Geteuid() != 0 {
		if err := exec.CommandContext(ctx, "sudo", "-n", "true").Run(); err != nil {
			h.refused = fmt.Errorf("packages not installed: neither root nor sudo without a password (%w)", err)
			return h.refused
		}
		args = append([]string{"sudo", "-n"}, args...)
	}
	if err := os.MkdirAll(h.log, 0o755); err != nil {
		return fmt.Errorf("install %s: %w", name, err)
	}
	log := filepath.Join(h.log, name+".log")
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if kept := os.WriteFile(log, out, 0o644); kept != nil {
		err = errors.Join(err, kept)
	}
	if err != nil {
		return fmt.Errorf("install %s: %w; see %s", name, err, log)
	}
	return nil
}

// find returns the program that matches the first pattern with a match: a name to look
// for in PATH, or an absolute pattern, of whose matches the last one wins.
func find(patterns []string) string {
	for _, pattern := range patterns {
		if !filepath.IsAbs(pattern) {
			if path, err := exec.LookPath(pattern); err == nil {
				return path
			}
			continue
		}
		if matches, _ := filepath.Glob(pattern); len(matches) > 0 {
			return slices.Max(matches)
		}
	}
	return ""
}

// origin names the package and version a program came with, or its path.
func origin(ctx context.Context, path string) string {
	candidates := []string{path}
	if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
		candidates = append(candidates, real)
	}
	for _, candidate := range candidates {
		owner, err := exec.CommandContext(ctx, "dpkg-query", "-S", candidate).Output()
		if err != nil {
			continue
		}
		name, _, _ := strings.Cut(string(owner), ": ")
		version, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Package} ${Version}", name).Output()
		if err == nil {
			return string(version)
		}
	}
	return path
}
