// Command check reads the files of new services that are for others to run, as those
// others do: compose.yaml as Docker Compose, the Dockerfile as BuildKit, the workflow
// as GitHub, deploy/ as kubectl apply -k and the API server, deploy/keda as KEDA. It
// is a module of its own: Hapax depends on none of them.
//
//	go run . FOLDER...
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// checks are the readers; each gets the folder of a service.
var checks = map[string]func(ctx context.Context, folder string) error{
	"compose.yaml":      compose,
	"Dockerfile":        dockerfile,
	".github/workflows": workflows,
	"deploy":            manifests,
	"deploy/keda":       autoscalers,
}

func main() {
	var problems []error
	for _, folder := range os.Args[1:] {
		for what, check := range checks {
			if err := check(context.Background(), folder); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", filepath.Join(folder, what), err))
			}
		}
	}
	if err := errors.Join(problems...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
