package scaffold

import (
	"bytes"
	"embed"
	"fmt"
	"go/format"
	"io/fs"
	"path"
	"slices"
	"strings"
	"text/template"
)

// templates are the files of a service: those in all, and those in sql for a
// service with a database of its own.
//
//go:embed all:templates
var templates embed.FS

// File is one file of a service.
type File struct {
	// Path is relative to the service's folder, with slashes.
	Path string
	Data []byte
}

// Files makes every file of a service. Options are filled in and checked.
func Files(o Options) ([]File, error) {
	o = o.WithDefaults()
	if err := o.Check(); err != nil {
		return nil, err
	}
	made, err := settingsFile(o)
	if err != nil {
		return nil, err
	}
	files, err := moduleFiles(o)
	if err != nil {
		return nil, err
	}
	files = append(files, made)
	folders := []string{"templates/all"}
	if o.SQL != "none" {
		folders = append(folders, "templates/sql")
	}
	for _, folder := range folders {
		more, err := fill(folder, o)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

// fill executes every template of a folder.
func fill(folder string, o Options) (files []File, err error) {
	err = fs.WalkDir(templates, folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := templates.ReadFile(name)
		if err != nil {
			return err
		}
		parsed, err := template.New(name).Delims("[[", "]]").Option("missingkey=error").Parse(string(text))
		if err != nil {
			return err
		}
		var out bytes.Buffer
		if err := parsed.Execute(&out, values{o, brokers[o.Broker], databases[o.SQL]}); err != nil {
			return err
		}
		file := File{Path: strings.TrimSuffix(strings.TrimPrefix(name, folder+"/"), ".tmpl"), Data: out.Bytes()}
		if path.Ext(file.Path) == ".go" {
			if file.Data, err = format.Source(file.Data); err != nil {
				return fmt.Errorf("format %s: %w", file.Path, err)
			}
		}
		files = append(files, file)
		return nil
	})
	return files, err
}

// values are what templates may ask for.
type values struct {
	Options
	broker   broker
	database database
}

// HasSQL: the service has a database of its own.
func (v values) HasSQL() bool { return v.SQL != "none" }

// Local: go.mod replaces the framework with a folder.
func (v values) Local() bool { return v.Framework.Version == "" }

// Profiles are what `make up` starts, for docker compose.
func (v values) Profiles() []string {
	return slices.DeleteFunc([]string{v.broker.profile, v.database.profile}, func(profile string) bool { return profile == "" })
}

// Environment is what a local run needs beside hapax.yaml, as make has it.
func (v values) Environment() []string { return v.broker.environment }

// Exports are the same for a shell.
func (v values) Exports() (exports []string) {
	for _, variable := range v.broker.environment {
		exports = append(exports, strings.Replace(variable, " ?= ", "=", 1))
	}
	return exports
}

// ClusterBlock is the broker's block in Kubernetes, indented by four.
func (v values) ClusterBlock() string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(v.broker.cluster), "\n", "\n    ")
}

// ClusterDSN is the database's connection string in Kubernetes.
func (v values) ClusterDSN() string { return v.database.cluster }

// LedgerURL: the replicas keep their marks in a ledger that is told by the Secret.
func (v values) LedgerURL() bool { return v.broker.sharesLedger && !v.HasSQL() }

// OneReplica: the service keeps a file, so there can be one of it only.
func (v values) OneReplica() bool { return v.Broker == embedded || v.SQL == "sqlite" }

// Placeholders are those of two arguments of an SQL statement.
func (v values) Placeholders() string { return v.database.placeholders }
