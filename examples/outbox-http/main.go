// Command outbox-http is an HTTP API whose orders and their events commit
// together. It uses the outbox by itself, with database/sql: no service, no
// handlers of the framework. `hapax relay` brings the events to the broker.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/hapax-go/hapax/dedup"
	"github.com/hapax-go/hapax/outbox"
	"github.com/hapax-go/hapax/outbox/schema"
	"github.com/hapax-go/hapax/outbox/sqldb"
)

// Order is what the API takes.
type Order struct {
	ID   string `json:"id"`
	Item string `json:"item"`
}

// API writes orders.
type API struct {
	DB     *sql.DB
	Outbox outbox.Config
}

// Place stores an order and its event: both or none.
func (a *API) Place(ctx context.Context, order Order) error {
	tx, err := a.DB.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing
	query := a.Outbox.Dialect.Rebind(`INSERT INTO orders (id, item) VALUES (?, ?)`)
	if _, err := tx.ExecContext(ctx, query, order.ID, order.Item); err != nil {
		return err
	}
	events, err := outbox.NewPublisher(ctx, tx, a.Outbox)
	if err != nil {
		return err
	}
	payload, _ := json.Marshal(order) // two strings always encode
	event := message.NewMessage(watermill.NewUUID(), payload)
	event.Metadata.Set(dedup.MetaKey, order.ID) // events of one order stay in order
	if err := events.Publish("orders.created", event); err != nil {
		return err
	}
	return tx.Commit()
}

// ServeHTTP takes POST /orders.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var order Order
	if err := json.NewDecoder(r.Body).Decode(&order); err != nil || order.ID == "" || order.Item == "" {
		http.Error(w, `expected {"id": "…", "item": "…"}`, http.StatusBadRequest)
		return
	}
	switch err := a.Place(r.Context(), order); {
	case sqldb.IsUnique(err):
		http.Error(w, "this order exists already", http.StatusConflict)
	case err != nil:
		log.Println("place order:", err)
		http.Error(w, "the order was not placed", http.StatusInternalServerError)
	default:
		w.WriteHeader(http.StatusCreated)
	}
}

// Open opens the database and creates what is missing in it.
func Open(ctx context.Context, dsn string) (*API, error) {
	db, dialect, err := sqldb.Open(ctx, dsn)
	if err != nil {
		return nil, err
	}
	tables, err := schema.New(db, dialect, schema.Names{})
	if err == nil {
		_, err = tables.Up(ctx)
	}
	if err == nil {
		_, err = db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS orders (id VARCHAR(100) PRIMARY KEY, item VARCHAR(100) NOT NULL)`)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &API{DB: db, Outbox: outbox.Config{Dialect: dialect}}, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	dsn := os.Getenv("DATABASE_URL")
	if dsn == "" {
		dsn = "file:orders.db"
	}
	api, err := Open(ctx, dsn)
	if err != nil {
		log.Fatal(err)
	}
	defer api.DB.Close()
	mux := http.NewServeMux()
	mux.Handle("POST /orders", api)
	server := &http.Server{Addr: "127.0.0.1:8080", Handler: mux}
	context.AfterFunc(ctx, func() { _ = server.Shutdown(context.Background()) })
	log.Println("try: curl -d '{\"id\":\"1\",\"item\":\"tea\"}' http://127.0.0.1:8080/orders")
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Println(err)
	}
}
