package inbox

import (
	"context"
	"database/sql"

	"github.com/hapax-go/hapax/dedup"
)

// Outbox stores handlers' outputs as rows of the database, in the transaction of
// their effects; a relay publishes them afterwards.
type Outbox interface {
	// Check reports outputs that can never be stored; its error wraps
	// dedup.ErrBadOutput.
	Check(outputs []dedup.Output) error
	// Store inserts outputs in their order, those of many handlers in one call.
	// The transaction has the marks as well; it must not be ended.
	Store(ctx context.Context, tx *sql.Tx, outputs []dedup.Output) error
	// Stored is called after the COMMIT, to wake a relay. It must not block.
	Stored()
}
