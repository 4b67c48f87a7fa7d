package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
	k8syaml "sigs.k8s.io/yaml"
)

// keda is where the definitions of KEDA's kinds are. They are data beside its code,
// which would be a lot to build.
const keda = "github.com/kedacore/keda/v2@v2.17.2"

// definitions are the schemas that KEDA gives to the API server, by kind.
var definitions = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	output, err := exec.Command("go", "mod", "download", "-json", keda).Output()
	var module struct{ Dir string }
	if err := errors.Join(err, json.Unmarshal(output, &module)); err != nil {
		return nil, fmt.Errorf("download %s: %w: %s", keda, err, output)
	}
	schemas := map[string]*jsonschema.Schema{}
	for _, plural := range []string{"scaledobjects", "triggerauthentications"} {
		text, err := os.ReadFile(filepath.Join(module.Dir, "config", "crd", "bases", "keda.sh_"+plural+".yaml"))
		if err != nil {
			return nil, err
		}
		var definition struct {
			Spec struct {
				Names    struct{ Kind string }
				Versions []struct {
					Schema struct {
						OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
					}
				}
			}
		}
		if err := k8syaml.Unmarshal(text, &definition); err != nil {
			return nil, err
		}
		schema := definition.Spec.Versions[0].Schema.OpenAPIV3Schema
		closed(schema)
		schema["properties"].(map[string]any)["metadata"] = map[string]any{"type": "object"} // the API server's own
		compiler, name := jsonschema.NewCompiler(), plural+".json"
		if err := compiler.AddResource(name, schema); err != nil {
			return nil, err
		}
		if schemas[definition.Spec.Names.Kind], err = compiler.Compile(name); err != nil {
			return nil, err
		}
	}
	return schemas, nil
})

// closed makes a field that the schema does not have an error, as kubectl does.
func closed(schema any) {
	switch schema := schema.(type) {
	case map[string]any:
		if _, has := schema["properties"].(map[string]any); has && schema["x-kubernetes-preserve-unknown-fields"] != true {
			if _, said := schema["additionalProperties"]; !said {
				schema["additionalProperties"] = false
			}
		}
		for _, below := range schema {
			closed(below)
		}
	case []any:
		for _, below := range schema {
			closed(below)
		}
	}
}

func autoscalers(_ context.Context, folder string) (all error) {
	schemas, err := definitions()
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(folder, "deploy", "keda", "*.yaml"))
	if err != nil || len(files) == 0 {
		return errors.Join(errors.New("there are none"), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		documents := yaml.NewDecoder(bytes.NewReader(text))
		for {
			var document any
			if err := documents.Decode(&document); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return err
			}
			all = errors.Join(all, autoscaler(schemas, filepath.Base(file), document))
		}
	}
	return all
}

func autoscaler(schemas map[string]*jsonschema.Schema, file string, document any) error {
	encoded, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(encoded)))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	kind, _ := value.(map[string]any)["kind"].(string)
	if schemas[kind] == nil {
		return fmt.Errorf("%s: kind %q, expected one of KEDA's", file, kind)
	}
	if err := schemas[kind].Validate(value); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}
