package framework

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/hapax-go/hapax/framework/config"
)

// Main is a service's whole main function: it reads the configuration, lets
// setup register handlers, runs until SIGTERM or SIGINT, drains, and ends the
// process with status 1 if anything went wrong. A second signal ends it at once.
//
// The configuration is the file HAPAX_CONFIG names, hapax.yaml otherwise, with
// HAPAX_ variables on top; without a file those and the defaults.
func Main(setup func(*Service)) {
	if err := run(setup); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(setup func(*Service)) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	// From the first signal on, signals have their default effect again, so a
	// second one ends the process.
	context.AfterFunc(ctx, stop)

	cfg, err := config.Load(os.Getenv("HAPAX_CONFIG"), os.Environ())
	if err != nil {
		return err
	}
	service, err := New(ctx, cfg)
	if err != nil {
		return unlessStopped(ctx, newLogger(cfg.Log), err)
	}
	setup(service)
	return service.Run(ctx)
}

// newLogger logs to standard error as the config's log block says.
func newLogger(cfg config.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Level)) // validated by the config
	options := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}
