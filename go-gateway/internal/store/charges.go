package store

import (
	"context"
	"database/sql"
)

// Charge is what a piece of durable work used: a row that is written in the transaction that ends the work, and so once.
type Charge struct {
	ID          string // of the work
	Tenant, Key string
	Class       string // of its requests
	Tokens      int64
	Day         int64 // of UTC, since 1970, by the database's clock
	Settled     bool  // the limits have been told of it
}

const chargeColumns = `id, tenant, key_id, class, tokens, day, settled_at IS NOT NULL`

// addCharge adds a charge in the transaction that ends what it is for. Nothing is charged for nothing.
func (s *Store) addCharge(ctx context.Context, tx *sql.Tx, charge Charge) error {
	if charge.Tokens == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO charge (id, tenant, key_id, class, tokens, day) SELECT $1, $2, $3, $4, $5, `+s.dialect.now+` / 86400000`,
		charge.ID, charge.Tenant, charge.Key, charge.Class, charge.Tokens)
	return err
}

// UnsettledCharges returns at most so many charges that the limits have not been told of.
func (s *Store) UnsettledCharges(ctx context.Context, most int) ([]Charge, error) {
	return query(ctx, s, scanCharge, `SELECT `+chargeColumns+` FROM charge WHERE settled_at IS NULL ORDER BY id LIMIT $1`, most)
}

// TodaysCharges returns at most so many charges of this day, by their ids: those after one.
func (s *Store) TodaysCharges(ctx context.Context, after string, most int) ([]Charge, error) {
	return query(ctx, s, scanCharge, `SELECT `+chargeColumns+` FROM charge WHERE day = `+s.dialect.now+` / 86400000 AND id > $1 ORDER BY id LIMIT $2`,
		after, most)
}

// SettleCharges says that the limits have been told of charges.
func (s *Store) SettleCharges(ctx context.Context, charges []Charge) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		for _, charge := range charges {
			_, err := tx.ExecContext(ctx, `UPDATE charge SET settled_at = `+s.dialect.now+` WHERE id = $1 AND settled_at IS NULL`, charge.ID)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// PruneCharges removes at most so many settled charges of days before yesterday.
func (s *Store) PruneCharges(ctx context.Context, most int) (int, error) {
	return s.remove(ctx, `DELETE FROM charge WHERE id IN (SELECT id FROM charge
		WHERE day < `+s.dialect.now+` / 86400000 - 1 AND settled_at IS NOT NULL LIMIT $1)`, most)
}

func scanCharge(row scanner) (c Charge, err error) {
	err = row.Scan(&c.ID, &c.Tenant, &c.Key, &c.Class, &c.Tokens, &c.Day, &c.Settled)
	return c, err
}
