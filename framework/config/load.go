package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"github.com/goccy/go-yaml/ast"
)

// FileName is the file that Load looks for in the working directory.
const FileName = "hapax.yaml"

// maxBytes bounds a file: what is larger is not a hapax.yaml, and the YAML
// parser's time grows with the square of some inputs.
const maxBytes = 256 << 10

// Load reads the configuration: defaults, then the file, then the HAPAX_
// variables of environ, which is in the form of os.Environ.
//
// An empty path means HAPAX_CONFIG, or else hapax.yaml in the working directory,
// which alone may be missing or empty. The error reports every problem at once,
// each a *Problem on a line of its own.
func Load(path string, environ []string) (*Config, error) {
	path = cmp.Or(path, environment(environ)[configVariable])
	explicit := path != ""
	path = cmp.Or(path, FileName)

	data, err := os.ReadFile(path)
	missing := errors.Is(err, fs.ErrNotExist) && !explicit
	switch {
	case missing:
	case err != nil:
		return nil, fmt.Errorf("read config: %w", err)
	case explicit && len(bytes.TrimSpace(data)) == 0:
		return nil, fmt.Errorf("read config: %s is empty, expected at least the line \"service: fulfilment\"", path)
	}
	config, err := Parse(path, data, environ)
	if folder := filepath.Dir(path); err == nil && folder != "." {
		config.folder = folder
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && missing {
		err = errors.Join(append([]error{noFile()}, joined.Unwrap()...)...)
	}
	return config, err
}

// noFile is said when there is no file and the variables alone do not suffice: likely
// the folder is not the one that was meant.
func noFile() error {
	folder, err := os.Getwd()
	if err != nil {
		folder = "the working directory"
	}
	return &Problem{Message: fmt.Sprintf("no %s in %s: run this in the service's folder, or name it with --file or %s", FileName, folder, configVariable)}
}

// Parse is Load for data at hand; name stands for the file in errors.
func Parse(name string, data []byte, environ []string) (*Config, error) {
	config := Default()
	config.file, config.origins, config.empty = name, map[string]origin{}, map[string]string{}
	d := &decoder{config: config, env: environment(environ), source: origin{file: name}}

	if len(data) > maxBytes {
		return nil, fmt.Errorf("read config: %s has %d bytes, expected at most %d", name, len(data), maxBytes)
	}
	root, syntax := parse(string(data))
	if syntax != nil {
		at := d.source
		at.line, at.column = syntax.line, syntax.column
		d.problems.add(at, "", "%s", syntax.message)
		return nil, d.problems.err()
	}
	if root != nil {
		if _, ok := root.(ast.MapNode); !ok {
			d.problems.add(d.at(root), "", "found %s, expected keys such as \"service: fulfilment\"", describe(root))
			return nil, d.problems.err()
		}
		d.block(root, reflect.ValueOf(config).Elem(), "")
	}
	d.override()
	for _, fill := range d.late {
		fill()
	}
	config.validate(&d.problems)
	if len(d.problems) > 0 {
		return nil, d.problems.err()
	}
	return config, nil
}

// Where tells where a setting was set: "hapax.yaml:3:9", "HAPAX_BROKER", or
// "default".
func (c *Config) Where(path string) string {
	if at, ok := c.origins[path]; ok {
		return at.String()
	}
	return "default"
}

// WhereHandler tells where a setting of a handler's own was set.
func (c *Config) WhereHandler(name, key string) string {
	return c.Where("handlers" + bracket(name) + "." + key)
}
