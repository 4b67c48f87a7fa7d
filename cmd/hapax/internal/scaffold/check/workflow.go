package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/rhysd/actionlint"
)

func workflows(_ context.Context, folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, ".github", "workflows", "*.yaml"))
	if err != nil || len(files) == 0 {
		return errors.Join(errors.New("there are none"), err)
	}
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	if err != nil {
		return err
	}
	found, err := linter.LintFiles(files, nil)
	for _, problem := range found {
		err = errors.Join(err, fmt.Errorf("%s:%d:%d: %s", filepath.Base(problem.Filepath), problem.Line, problem.Column, problem.Message))
	}
	return err
}
