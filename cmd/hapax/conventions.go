package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// exitStatuses is said by `hapax --help`; what 2 means for a command stands in its
// own help.
const exitStatuses = `Every command that prints a result has --json. Results go to standard output,
everything else to standard error; what is not printed on a terminal has no colour.

Exit status: 0 done; 1 something went wrong, wrong flags and arguments included;
2 done, and found what the command looks for.`

// plainStatus is said by commands that look for nothing, so that there is no 2.
const plainStatus = "Exit status: 0 done, 1 something went wrong."

// withConventions gives every command of a tree what they have in common: a group of
// commands refuses a word that is none of them, where cobra would print the help and
// call it success, each says its exit status, and the shell completions show how to
// use them.
func withConventions(root *cobra.Command) *cobra.Command {
	root.Long += "\n\n" + exitStatuses
	root.InitDefaultHelpCmd()
	strictHelp(root)
	root.InitDefaultCompletionCmd()
	for _, shell := range child(root, "completion").Commands() {
		shell.Example = completionExamples[shell.Name()]
	}
	var walk func(*cobra.Command)
	walk = func(command *cobra.Command) {
		for _, child := range command.Commands() {
			walk(child)
		}
		if command.Args != nil {
			nameMissing(command)
		}
		switch {
		case command.HasParent() && command.HasSubCommands() && !command.Runnable():
			group(command)
		case command.HasParent() && !strings.Contains(strings.ToLower(command.Long), "exit status"):
			if command.Long == "" {
				command.Long = command.Short + "."
			}
			command.Long = strings.TrimSpace(command.Long) + "\n\n" + plainStatus
		}
	}
	walk(root)
	return root
}

// execute runs a command line. Cobra keeps it to itself when help could not be written.
func execute(ctx context.Context, root *cobra.Command) error {
	var printing error
	show := root.HelpFunc()
	root.SetHelpFunc(func(command *cobra.Command, arguments []string) {
		out := command.OutOrStdout()
		var text bytes.Buffer
		command.SetOut(&text)
		show(command, arguments)
		command.SetOut(out)
		_, printing = text.WriteTo(out)
	})
	if err := root.ExecuteContext(ctx); err != nil || printing == nil {
		return err
	}
	return fmt.Errorf("print help: %w", printing)
}

// strictHelp makes `hapax help` refuse words that are no command, as commands do.
func strictHelp(root *cobra.Command) {
	help := child(root, "help")
	help.Run = nil
	help.RunE = func(_ *cobra.Command, words []string) error {
		about, rest, err := root.Find(words)
		switch {
		case err != nil:
			return err
		case len(rest) > 0 && about.HasSubCommands():
			return about.Args(about, rest)
		case len(rest) > 0:
			return fmt.Errorf("unknown command %q for %q", rest[0], about.CommandPath())
		}
		about.InitDefaultHelpFlag()
		return about.Help()
	}
}

// nameMissing makes a command that was given too few arguments say which one is
// missing, and show its example, where cobra would only count. A topic that is empty, as
// from a variable that is not set, is missing too.
func nameMissing(command *cobra.Command) {
	check := command.Args
	command.Args = func(command *cobra.Command, arguments []string) error {
		err := check(command, arguments)
		needed, missing := strings.Fields(command.Use)[1:], len(arguments)
		if missing > 0 && len(needed) > 0 && needed[0] == "TOPIC" && arguments[0] == "" {
			missing = 0
		} else if err == nil || missing >= len(needed) || strings.ContainsAny(needed[missing][:1], "[-") {
			return err
		}
		example, _, _ := strings.Cut(strings.TrimSpace(command.Example), "\n")
		return fmt.Errorf("%s: %s is missing: for example %s", strings.TrimPrefix(command.CommandPath(), "hapax "), strings.TrimSuffix(needed[missing], "..."), example)
	}
}

// group makes a command that only has others below it refuse unknown words.
func group(command *cobra.Command) {
	if command.Example == "" {
		command.Example, _, _ = strings.Cut(command.Commands()[0].Example, "\n")
	}
	command.SuggestionsMinimumDistance = 2
	command.Args = func(command *cobra.Command, arguments []string) error {
		if len(arguments) == 0 {
			return nil
		}
		var names []string
		for _, child := range command.Commands() {
			if child.IsAvailableCommand() {
				names = append(names, child.Name())
			}
		}
		advice := "expected one of " + strings.Join(names, ", ")
		if near := command.SuggestionsFor(arguments[0]); len(near) > 0 {
			advice = fmt.Sprintf("did you mean %q?", near[0])
		}
		return fmt.Errorf("unknown command %q for %q: %s", arguments[0], command.CommandPath(), advice)
	}
	command.RunE = func(command *cobra.Command, _ []string) error { return command.Help() }
}

// child is one of the commands that cobra adds.
func child(root *cobra.Command, name string) *cobra.Command {
	for _, command := range root.Commands() {
		if command.Name() == name {
			return command
		}
	}
	return &cobra.Command{}
}

var completionExamples = map[string]string{
	"bash":       "  source <(hapax completion bash)",
	"zsh":        "  hapax completion zsh > _hapax",
	"fish":       "  hapax completion fish > hapax.fish",
	"powershell": "  hapax completion powershell > hapax.ps1",
}
