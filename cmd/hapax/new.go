package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/charmbracelet/huh"
	"github.com/charmbracelet/lipgloss"
	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/cmd/hapax/internal/scaffold"
)

// newCommand writes a new service.
func newCommand() *cobra.Command {
	var o scaffold.Options
	var dir, replace string
	var force bool
	var asJSON *bool
	command := &cobra.Command{
		Use:   "new NAME",
		Short: "Make a new service: code, tests, hapax.yaml, Docker, Kubernetes, CI",
		Long: `Makes a new service in a folder of its own. It builds, tests and runs at once; on
the embedded broker it needs no server.

On a terminal it asks for what no flag says. Elsewhere it never asks, and takes the
defaults.

When this command was not installed from a released version, the service's go.mod
replaces the framework with a checkout of it: the one above the working directory,
above this command, or where this command was built; --replace names another. A
command that was built with -trimpath, as make build does, does not know where it was
built: once it is copied elsewhere, run it from within a checkout, or use --replace.`,
		Example: `  hapax new fulfilment
  hapax new shop --broker kafka --sql postgres --module example.com/shop --dir services/shop`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(command *cobra.Command, arguments []string) (err error) {
			if len(arguments) == 1 {
				o.Name = arguments[0]
			}
			if interactive(command) && !*asJSON {
				if err := ask(command, &o); err != nil {
					return err
				}
			}
			if o.Name == "" {
				return errors.New("new: the service's name is missing: hapax new NAME")
			}
			o = o.WithDefaults()
			if err := o.Check(); err != nil {
				return fmt.Errorf("new: %w", err)
			}
			if o.Framework, err = scaffold.Find(replace); err != nil {
				return err
			}
			files, err := scaffold.Files(o)
			if err != nil {
				return err
			}
			if dir == "" {
				dir = o.Name
			}
			if err := scaffold.Write(dir, files, force); err != nil {
				return err
			}
			tidy := scaffold.Tidy(command.Context(), dir) == nil // else it is among the next steps
			if *asJSON {
				return printJSON(command.OutOrStdout(), created(o, dir, files))
			}
			var first []string
			if scaffold.OutsideWorkspace(command.Context(), dir) {
				first = append(first, "go work use .")
			}
			if !tidy {
				first = append(first, "go mod tidy")
			}
			_, err = fmt.Fprint(command.OutOrStdout(), nextSteps(o, dir, len(files), first))
			return err
		},
	}
	asJSON = jsonFlag(command, "one JSON object; nothing is asked")
	flags := command.Flags()
	flags.StringVar(&o.Broker, "broker", "", "the broker to start with: "+strings.Join(scaffold.Brokers(), ", ")+" (default sqlite, which is embedded)")
	flags.StringVar(&o.SQL, "sql", "", "the service's own database: "+strings.Join(scaffold.Databases, ", ")+" (default none)")
	flags.StringVar(&o.Module, "module", "", "the Go module's path (default example.com/NAME)")
	flags.StringVar(&dir, "dir", "", "the folder to write to (default NAME)")
	flags.BoolVar(&force, "force", false, "write into a folder that is not empty, over files of the same names")
	flags.StringVar(&replace, "replace", "", "a checkout of the framework to use (default: found as described above, if one is needed)")
	return command
}

// interactive reports whether somebody is there to answer.
func interactive(command *cobra.Command) bool {
	return isTerminal(command.InOrStdin()) && isTerminal(command.OutOrStdout()) && os.Getenv("TERM") != "dumb"
}

// ask asks for what is missing.
func ask(command *cobra.Command, o *scaffold.Options) error {
	fields := questions(o)
	if len(fields) == 0 {
		return nil
	}
	// Only here does anybody answer; see package unasked.
	lipgloss.SetHasDarkBackground(lipgloss.NewRenderer(command.OutOrStdout()).HasDarkBackground())
	form := huh.NewForm(huh.NewGroup(fields...)).
		WithInput(command.InOrStdin()).WithOutput(command.OutOrStdout()).
		WithAccessible(os.Getenv("ACCESSIBLE") != "") // plain lines, for screen readers
	err := form.RunWithContext(command.Context())
	if errors.Is(err, huh.ErrUserAborted) {
		return errors.New("new: stopped; nothing was written")
	}
	return err
}

func questions(o *scaffold.Options) (fields []huh.Field) {
	if o.Name == "" {
		fields = append(fields, huh.NewInput().Title("Name of the service").Value(&o.Name).Validate(scaffold.CheckName))
	}
	if o.Module == "" {
		fields = append(fields, huh.NewInput().Title("Go module").Description("empty: example.com/NAME").Value(&o.Module).
			Validate(func(path string) error {
				if path == "" {
					return nil
				}
				return scaffold.CheckModule(path)
			}))
	}
	if o.Broker == "" {
		fields = append(fields, huh.NewSelect[string]().Title("Broker to start with").
			Description("hapax.yaml has all of them; sqlite is embedded and needs no server").
			Options(huh.NewOptions(scaffold.Brokers()...)...).Value(&o.Broker))
	}
	if o.SQL == "" {
		fields = append(fields, huh.NewSelect[string]().Title("Database of the service itself").
			Description("its rows commit together with the mark that the event was processed").
			Options(huh.NewOptions(scaffold.Databases...)...).Value(&o.SQL))
	}
	return fields
}

// service is what hapax new --json prints.
type service struct {
	Service   string   `json:"service"`
	Module    string   `json:"module"`
	Broker    string   `json:"broker"`
	SQL       string   `json:"sql"`
	Folder    string   `json:"folder"`
	Framework string   `json:"framework"`
	Files     []string `json:"files"`
}

func created(o scaffold.Options, dir string, files []scaffold.File) service {
	made := service{o.Name, o.Module, o.Broker, o.SQL, dir, o.Framework.Version + o.Framework.Folder, nil}
	for _, file := range files {
		made.Files = append(made.Files, file.Path)
	}
	return made
}

// nextSteps says what to do with a new service; first are commands that Go needs.
func nextSteps(o scaffold.Options, dir string, files int, first []string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: service %s on %s, %d files\n", dir, o.Name, o.Broker, files)
	if folder := o.Framework.Folder; folder != "" {
		fmt.Fprintf(&text, "go.mod takes the framework from %s\n", folder)
	}
	fmt.Fprintf(&text, "\n  cd %s\n", dir)
	for _, step := range first {
		fmt.Fprintf(&text, "  %s\n", step)
	}
	text.WriteString("  make test\n")
	if scaffold.NeedsServers(o) {
		text.WriteString("  make up\n")
	}
	text.WriteString("  make run\n")
	return text.String()
}
