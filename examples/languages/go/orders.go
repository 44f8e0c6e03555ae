// Package orders is a service in Go that writes its events with pgx, each in the transaction that it is about.
package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

type Order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Units    int    `json:"units"`
}

func Open(ctx context.Context, url string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	// Without prepared statements it works through PgBouncer, whatever its version.
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	return pgxpool.NewWithConfig(ctx, config)
}

func PlaceOrder(ctx context.Context, pool *pgxpool.Pool, order Order) error {
	data, err := json.Marshal(order)
	if err != nil {
		return err
	}
	// Commits, or rolls back if anything returns an error.
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO orders (id, customer, units) VALUES ($1, $2, $3)",
			order.ID, order.Customer, order.Units)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "SELECT outbox.write($1, $2, $3)", "customer/"+order.Customer, "order.placed", string(data))
		return err
	})
}

// ErrConflict: somebody else wrote to the key since it was read. Read it again and decide again.
var ErrConflict = errors.New("the key was written to meanwhile")

func sqlState(err error) string {
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) {
		return refusal.Code
	}
	return ""
}

func SequenceOf(ctx context.Context, pool *pgxpool.Pool, key string) (sequence int64, err error) {
	err = pool.QueryRow(ctx, "SELECT sequence FROM outbox.heads WHERE key = $1", key).Scan(&sequence)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return sequence, err
}

func CloseAccount(ctx context.Context, pool *pgxpool.Pool, customer string, sequenceWhenRead int64) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE customers SET is_open = false WHERE id = $1", customer); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "SELECT outbox.write($1, $2, expected => $3)",
			"customer/"+customer, "account.closed", sequenceWhenRead)
		return err
	})
	if sqlState(err) == "OX001" {
		return fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return err
}

func Ship(ctx context.Context, pool *pgxpool.Pool, orders []Order) error {
	var ids []string
	var events []map[string]any
	for _, order := range orders {
		ids = append(ids, order.ID)
		events = append(events, map[string]any{
			"key": "customer/" + order.Customer, "type": "order.shipped", "data": map[string]string{"id": order.ID},
		})
	}
	events = append(events, map[string]any{
		"type": "parcels.counted", "data": len(orders), "attributes": map[string]string{"subject": "depot-1"},
	})
	all, err := json.Marshal(events)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE orders SET status = 'shipped' WHERE id = ANY($1)", ids); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "SELECT outbox.write_all($1)", string(all))
		return err
	})
}

// ErrUnknown: purged since, so nobody can tell whether an earlier attempt was committed. Look for what it changed.
var ErrUnknown = errors.New("the entry was purged since")

// PlaceOrderOnce is for when the answer to a COMMIT is lost. commitID is a UUID of the caller's; the same one, the same order.
func PlaceOrderOnce(ctx context.Context, pool *pgxpool.Pool, order Order, sequenceWhenRead int64, commitID string) error {
	key := "customer/" + order.Customer
	data, err := json.Marshal(order)
	if err != nil {
		return err
	}
	for attempt := range 8 {
		err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "SELECT outbox.write($1, $2, $3, expected => $4, commit_id => $5::uuid)",
				key, "order.placed", string(data), sequenceWhenRead, commitID)
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, "INSERT INTO orders (id, customer, units) VALUES ($1, $2, $3)",
				order.ID, order.Customer, order.Units)
			return err
		})
		switch state := sqlState(err); {
		case err == nil:
			return nil
		case state == "OX001":
			// An earlier attempt of this order, whose answer was lost, or somebody else?
			var isOurs *bool
			conflict := err
			err = pool.QueryRow(ctx, "SELECT outbox.committed($1, $2, $3::uuid)",
				key, sequenceWhenRead+1, commitID).Scan(&isOurs)
			switch {
			case err != nil: // the connection is lost again
			case isOurs == nil:
				return fmt.Errorf("%w: %w", ErrUnknown, conflict)
			case *isOurs:
				return nil
			default:
				return fmt.Errorf("%w: %w", ErrConflict, conflict)
			}
		case state != "" && !asksToTryAgain(state):
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond << attempt):
		}
	}
	return fmt.Errorf("it is not known whether the order was placed, try again with the same commit id, before the retention is over: %w", err)
}

func asksToTryAgain(state string) bool {
	switch state[:2] {
	case "08", "40", "53", "57":
		return true
	}
	return false
}
