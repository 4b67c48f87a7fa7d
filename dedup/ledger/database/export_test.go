package database

import "context"

// Step takes one step of Maintain.
func (l *Ledger) Step(ctx context.Context) (more bool, err error) {
	conn, err := l.db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	k := keeper{l, conn}
	alone, err := k.fence(ctx)
	if err != nil || !alone {
		return false, err
	}
	defer k.unfence(ctx)
	return k.step(ctx)
}

// ErrBusy: somebody else was at it.
var ErrBusy = errBusy

// Tables lists the ledger's tables.
func (l *Ledger) Tables() []string {
	t := l.tables
	return []string{t.state, t.keeper, t.runs, t.packed, t.hot[0], t.hot[1]}
}
