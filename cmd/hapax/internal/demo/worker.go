package demo

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/spf13/cobra"

	"github.com/hapax-go/hapax/framework"
	"github.com/hapax-go/hapax/framework/config"
	"github.com/hapax-go/hapax/internal/fault"
	"github.com/hapax-go/hapax/internal/fault/effects"
)

const (
	lanePlain = "plain"
	laneHapax = "hapax"
)

// worker is one consumer process of a lane.
type worker struct {
	broker       string
	lane, folder string
	name         string
}

// workerCommand is what the demo starts as a child.
func workerCommand() *cobra.Command {
	var w worker
	command := &cobra.Command{
		Use:    "worker",
		Short:  "One consumer of the demo; the demo starts these itself",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, err := fault.Attach(command.Context())
			if err != nil {
				return err
			}
			return w.run(ctx)
		},
	}
	command.Flags().StringVar(&w.broker, "broker", "sqlite", "broker")
	command.Flags().StringVar(&w.lane, "lane", laneHapax, "plain or hapax")
	command.Flags().StringVar(&w.folder, "folder", ".", "folder of the run's files")
	command.Flags().StringVar(&w.name, "name", "consumer", "the consumer's name in the counts")
	return command
}

func (w worker) arguments() []string {
	return []string{"demo", "worker", "--broker", w.broker, "--lane", w.lane, "--folder", w.folder, "--name", w.name}
}

// run consumes until ctx ends, whether it has come to that or not.
func (w worker) run(ctx context.Context) error {
	err := w.consume(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // it was told to stop while it started
	}
	return err
}

func (w worker) consume(ctx context.Context) (err error) {
	broker, err := brokerNamed(w.broker)
	if err != nil {
		return err
	}
	if broker, err = broker.withSQL(w.folder); err != nil {
		return err
	}
	deliveries, err := effects.Open(ctx, deliveriesFile(w.folder, w.lane))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, deliveries.Close()) }()
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	cfg := broker.config(w.folder, w.lane)
	cfg.Admin.Enabled = false
	cfg.Shutdown.DrainTimeout = config.Duration(5 * time.Second)
	if w.lane == lanePlain {
		return w.runPlain(ctx, broker, cfg, deliveries, logger)
	}
	return w.runHapax(ctx, broker, cfg, deliveries, logger)
}

// runHapax is a Hapax service: two plain functions.
func (w worker) runHapax(ctx context.Context, broker broker, cfg *config.Config, deliveries *sql.DB, logger *slog.Logger) error {
	service, err := framework.New(ctx, cfg, framework.WithLogger(logger))
	if err != nil {
		return err
	}
	service.Router().AddMiddleware(recordDeliveries(deliveries, w.name))
	framework.Handle(service, topicOrders, Fulfil, framework.To(topicShipping))
	framework.Handle(service, topicShipping, ship(broker, w.name))
	go func() {
		select {
		case <-service.Router().Running():
			_ = fault.Ready(ctx)
		case <-ctx.Done():
		}
	}()
	return service.Run(ctx)
}

// runPlain is the consumer everybody writes first: do the work, then acknowledge.
func (w worker) runPlain(ctx context.Context, broker broker, cfg *config.Config, deliveries *sql.DB, logger *slog.Logger) (err error) {
	ends, err := broker.plain(ctx, cfg, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ends.close()) }()
	shop, err := effects.Open(ctx, broker.shop(w.folder, w.lane))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shop.Close()) }()
	orders, err := ends.subscribe("fulfilment")
	if err != nil {
		return err
	}
	requests, err := ends.subscribe("shipping")
	if err != nil {
		return err
	}
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 10 * time.Second}, watermill.NewSlogLogger(logger))
	if err != nil {
		return err
	}
	router.AddMiddleware(recordDeliveries(deliveries, w.name))
	router.AddHandler("fulfilment", topicOrders, orders, topicShipping, ends.publisher, plainFulfil)
	router.AddConsumerHandler("shipping", topicShipping, requests, plainShip(shop, w.name))
	go func() { <-router.Running(); <-ctx.Done(); _ = router.Close() }() // closing one that starts would block both
	go func() { <-router.Running(); _ = fault.Ready(ctx) }()
	return router.Run(context.WithoutCancel(ctx))
}

func plainFulfil(msg *message.Message) ([]*message.Message, error) {
	var order fault.Event
	if err := json.Unmarshal(msg.Payload, &order); err != nil {
		return nil, err
	}
	shipment, err := Fulfil(msg.Context(), order)
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(shipment)
	if err != nil {
		return nil, err
	}
	output := message.NewMessage(watermill.NewUUID(), payload)
	for key, value := range msg.Metadata { // among them the ordering key, under any broker's name
		output.Metadata.Set(key, value)
	}
	return message.Messages{output}, nil
}

func plainShip(shop *sql.DB, consumer string) message.NoPublishHandlerFunc {
	return func(msg *message.Message) error {
		var shipment Shipment
		if err := json.Unmarshal(msg.Payload, &shipment); err != nil {
			return err
		}
		return effects.Insert(msg.Context(), shop, shipment.effect(consumer))
	}
}

func deliveriesFile(folder, lane string) string {
	return filepath.Join(folder, lane+"-deliveries.db")
}
