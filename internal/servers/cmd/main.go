// Command cmd brings real servers up for tests and demos, and down again. See
// the launch package for how, and `make servers`.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/internal/servers"
	"github.com/hapax-go/hapax/internal/servers/launch"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		stop()
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var o launch.Options
	root := &cobra.Command{Use: "servers", Short: "real servers for tests and demos, on loopback", SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(c *cobra.Command, _ []string) (err error) {
			o.Out = c.ErrOrStderr()
			if o.Dir == "" {
				o.Dir, err = servers.Dir()
			} else if o.Dir, err = filepath.Abs(o.Dir); err == nil {
				err = os.Setenv(servers.DirVariable, o.Dir)
			}
			if err != nil {
				return err
			}
			here, err := os.Getwd()
			if err == nil {
				o.Root, err = servers.ModuleRoot(here)
			}
			return err
		}}
	root.PersistentFlags().StringVar(&o.Dir, "data", "", "the servers' folder (default: "+servers.DirVariable+", else .servers in the repository)")
	only := func(c *cobra.Command) *cobra.Command {
		c.Flags().StringSliceVar(&o.Only, "only", nil, "servers by name: "+strings.Join(servers.Names(), ","))
		return c
	}
	root.AddCommand(only(up(&o)), only(down(&o)), status(&o), env(&o), restart(), report(&o))
	return root
}

func up(o *launch.Options) *cobra.Command {
	c := &cobra.Command{Use: "up", Short: "bring servers up (REQUIRE_REAL=1: fail when one is missing)", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			results, err := launch.Up(c.Context(), *o)
			if err != nil {
				return err
			}
			return show(c, results)
		}}
	c.Flags().IntVar(&o.Nodes, "nodes", 0, "kafka nodes, 1 or 3 (default: as many as run, else 1)")
	return c
}

func show(c *cobra.Command, results []launch.Result) error {
	rows, missing := launch.Table(results)
	if err := servers.Table(c.OutOrStdout(), rows); err != nil {
		return err
	}
	fmt.Fprint(c.OutOrStdout(), missing)
	if missing != "" && servers.RequireReal() {
		return errors.New("REQUIRE_REAL=1 and not every server is up")
	}
	return c.Context().Err()
}

func down(o *launch.Options) *cobra.Command {
	clean := false
	c := &cobra.Command{Use: "down", Short: "stop what `up` started", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return launch.Down(c.Context(), *o, clean) }}
	c.Flags().BoolVar(&clean, "clean", false, "remove data and logs too")
	return c
}

func status(o *launch.Options) *cobra.Command {
	return &cobra.Command{Use: "status", Short: "ask every server that was brought up", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			results, err := launch.Status(c.Context(), o.Dir)
			if err != nil {
				return err
			}
			if len(results) == 0 {
				fmt.Fprintln(c.OutOrStdout(), "no servers are up: run `make servers`")
				return nil
			}
			return show(c, results)
		}}
}

func env(o *launch.Options) *cobra.Command {
	return &cobra.Command{Use: "env", Short: "print the addresses as shell variables", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			fmt.Fprintf(c.OutOrStdout(), "export %s=%s\n", servers.DirVariable, quote(o.Dir))
			for _, name := range servers.Names() {
				if a, ok := servers.Find(name); ok {
					fmt.Fprintf(c.OutOrStdout(), "export %s=%s\n", servers.Variable(name), quote(a.URL))
				}
			}
			return nil
		}}
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func restart() *cobra.Command {
	hard := false
	c := &cobra.Command{Use: "restart SERVER", Short: "stop one server and start it again", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			begun := time.Now()
			if err := servers.Restart(c.Context(), args[0], hard); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s answers again after %.1f s\n", args[0], time.Since(begun).Seconds())
			return nil
		}}
	c.Flags().BoolVar(&hard, "hard", false, "SIGKILL instead of a clean stop")
	return c
}

func report(o *launch.Options) *cobra.Command {
	reset := false
	c := &cobra.Command{Use: "report", Short: "print what the tests ran on, and which did not run", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if reset {
				if err := os.Remove(servers.ReportFile(o.Dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
					return err
				}
				return nil
			}
			entries, err := servers.ReadReport(o.Dir)
			if err != nil {
				return err
			}
			return servers.Report(c.OutOrStdout(), entries, version(c.Context()))
		}}
	c.Flags().BoolVar(&reset, "reset", false, "forget the last run instead; do this before `go test -count=1`")
	return c
}

// version asks a server from the environment, which the tests did not do.
func version(ctx context.Context) func(servers.Entry) string {
	return func(e servers.Entry) string {
		a, given, err := servers.FromEnv(e.Server)
		if !given || err != nil || e.Origin != servers.FromEnvironment {
			return ""
		}
		said, err := a.Probe(ctx)
		if err != nil {
			return ""
		}
		return said
	}
}
