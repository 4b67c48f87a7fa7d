package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// compose loads the file with every profile, as docker compose config does.
func compose(ctx context.Context, folder string) error {
	options, err := cli.NewProjectOptions([]string{filepath.Join(folder, "compose.yaml")}, cli.WithProfiles([]string{"*"}))
	if err != nil {
		return err
	}
	project, err := options.LoadProject(ctx)
	if err != nil {
		return err
	}
	if len(project.Services) == 0 {
		return fmt.Errorf("it has no services")
	}
	return nil
}

func dockerfile(_ context.Context, folder string) error {
	file, err := os.Open(filepath.Join(folder, "Dockerfile"))
	if err != nil {
		return err
	}
	defer file.Close()
	parsed, err := parser.Parse(file)
	if err != nil {
		return err
	}
	if len(parsed.Warnings) > 0 {
		return fmt.Errorf("warnings: %+v", parsed.Warnings)
	}
	_, _, err = instructions.Parse(parsed.AST, nil)
	return err
}
