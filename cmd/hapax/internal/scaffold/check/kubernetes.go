package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// kinds are the objects that a service's manifests have, as the API server knows them.
var kinds = map[string]func() any{
	"ConfigMap":             func() any { return new(core.ConfigMap) },
	"Secret":                func() any { return new(core.Secret) },
	"PersistentVolumeClaim": func() any { return new(core.PersistentVolumeClaim) },
	"Deployment":            func() any { return new(apps.Deployment) },
}

// manifests builds deploy/ as kubectl apply -k does, and decodes each object strictly,
// which refuses a field that its kind does not have.
func manifests(_ context.Context, folder string) error {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(folder, "deploy"))
	if err != nil {
		return err
	}
	if built.Size() < 2 {
		return fmt.Errorf("%d objects", built.Size())
	}
	for _, resource := range built.Resources() {
		text, yamlErr := resource.AsYAML()
		err = errors.Join(err, yamlErr, decode(resource.GetKind(), text))
	}
	// It is copied and filled in, and not among the resources.
	secret, readErr := os.ReadFile(filepath.Join(folder, "deploy", "secret.example.yaml"))
	return errors.Join(err, readErr, decode("Secret", secret))
}

func decode(kind string, text []byte) error {
	known, ok := kinds[kind]
	if !ok {
		return fmt.Errorf("kind %q, expected one that is checked", kind)
	}
	// The API server's own decoder: it tells stringData from stringdata.
	text, err := yaml.YAMLToJSONStrict(text)
	if err == nil {
		var strict []error
		strict, err = json.UnmarshalStrict(text, known())
		err = errors.Join(append(strict, err)...)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	return nil
}
