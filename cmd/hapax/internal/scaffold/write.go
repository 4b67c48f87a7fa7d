package scaffold

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Write writes the files of a service into a folder, which it makes if it is
// missing. A folder that has anything in it is refused, unless force is set: then
// files of the same names are overwritten, and others are left alone.
func Write(folder string, files []File, force bool) error {
	entries, err := os.ReadDir(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("write service: %w", err)
	case len(entries) > 0 && !force:
		return fmt.Errorf("write service: folder %s is not empty (it has %s): choose another with --dir, or pass --force to overwrite the files that a service has", folder, entries[0].Name())
	}
	for _, file := range files {
		path := filepath.Join(folder, filepath.FromSlash(file.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write service: %w", err)
		}
		if err := os.WriteFile(path, file.Data, 0o644); err != nil {
			return fmt.Errorf("write service: %w", err)
		}
	}
	return nil
}
