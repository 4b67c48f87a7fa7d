package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/stdlib"
)

// Listen calls notify for every NOTIFY on a channel of a PostgreSQL database, on
// one connection of the pool, and once when it has begun to listen: what was
// notified before is not told. It returns when ctx ends (nil) or the connection
// is lost; the caller then polls and listens again. notify must not block.
func Listen(ctx context.Context, db *sql.DB, channel string, notify func(payload string)) error {
	if err := ValidateIdentifier(channel); err != nil {
		return fmt.Errorf("listen: channel %w", err)
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("listen to %s: %w", channel, err)
	}
	defer conn.Close()
	err = conn.Raw(func(raw any) error {
		postgres, ok := raw.(*stdlib.Conn)
		if !ok {
			return errors.New("only PostgreSQL has LISTEN")
		}
		client := postgres.Conn()
		if _, err := client.Exec(ctx, "LISTEN "+Postgres.QuoteName(channel)); err != nil {
			return err
		}
		notify("")
		for {
			notification, err := client.WaitForNotification(ctx)
			if err != nil {
				// A connection that was cut off while it waited, or still listens,
				// must not go back to the pool.
				return errors.Join(err, driver.ErrBadConn)
			}
			notify(notification.Payload)
		}
	})
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("listen to %s: %w", channel, err)
}
