package servers

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Entry is one line of the report file: one test on one server, or not run.
type Entry struct {
	Server  string `json:"server"`
	Version string `json:"version,omitempty"`
	Address string `json:"address,omitempty"`
	Origin  string `json:"origin,omitempty"`
	Package string `json:"package"`
	Test    string `json:"test"`
	NotRun  string `json:"notRun,omitempty"` // why not; "" when it ran
}

// ReportFile is the report's path in the servers' folder.
func ReportFile(dir string) string { return filepath.Join(dir, "report.jsonl") }

// append adds the entry. Test processes of many packages write at the same time;
// one short write to a file opened for appending is never torn by another.
func (e Entry) append(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	file, err := os.OpenFile(ReportFile(dir), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	_, err = file.Write(append(line, '\n'))
	return errors.Join(err, file.Close())
}

// ReadReport reads the report file in dir. A missing file is an empty report.
func ReadReport(dir string) ([]Entry, error) {
	data, err := os.ReadFile(ReportFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	var entries []Entry
	lines := bufio.NewScanner(bytes.NewReader(data))
	for number := 1; lines.Scan(); number++ {
		var e Entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("read report %s:%d: %w", ReportFile(dir), number, err)
		}
		entries = append(entries, e)
	}
	return entries, lines.Err()
}

// Report prints what ran on what: one row for each server and way it was had,
// then one line for each reason that kept tests from running. describe, if not
// nil, fills in a version that was not known during the tests.
func Report(w io.Writer, entries []Entry, describe func(Entry) string) error {
	type key struct{ server, origin, address, version string }
	ran, packages := map[key]map[string]bool{}, map[key]map[string]bool{}
	missing := map[string]map[string]bool{} // server and reason → tests
	for _, e := range entries {
		test := e.Package + " " + e.Test
		if e.NotRun != "" {
			put(missing, e.Server+": "+e.NotRun, test)
			continue
		}
		k := key{e.Server, e.Origin, e.Address, e.Version}
		put(ran, k, test)
		put(packages, k, e.Package)
	}
	if len(entries) == 0 {
		_, err := fmt.Fprintln(w, "no test asked for a server (cached results do not count: run with -count=1)")
		return err
	}
	rows := [][]string{{"SERVER", "VERSION", "ADDRESS", "HOW", "TESTS", "IN"}}
	byRow := func(a, b key) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) }
	for _, k := range slices.SortedFunc(maps.Keys(ran), byRow) {
		version := k.version
		if version == "" && describe != nil {
			version = describe(Entry{Server: k.server, Origin: k.origin, Address: k.address})
		}
		rows = append(rows, []string{k.server, version, k.address, k.origin, fmt.Sprint(len(ran[k])),
			strings.Join(slices.Sorted(maps.Keys(packages[k])), " ")})
	}
	if err := Table(w, rows); err != nil {
		return err
	}
	for _, why := range slices.Sorted(maps.Keys(missing)) {
		if _, err := fmt.Fprintf(w, "\nNOT RUN, %d tests, %s\n", len(missing[why]), why); err != nil {
			return err
		}
		for _, test := range slices.Sorted(maps.Keys(missing[why])) {
			if _, err := fmt.Fprintln(w, "  "+test); err != nil {
				return err
			}
		}
	}
	return nil
}

func put[K comparable](sets map[K]map[string]bool, k K, member string) {
	if sets[k] == nil {
		sets[k] = map[string]bool{}
	}
	sets[k][member] = true
}
