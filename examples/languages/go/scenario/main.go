// Does what orders.go can do, and what has to be refused: `go run ./scenario postgres://…` where orders.sql was run.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"example.com/orders"
)

func main() {
	ctx := context.Background()
	pool, err := orders.Open(ctx, os.Args[1])
	must(err)
	defer pool.Close()
	_, err = pool.Exec(ctx, "INSERT INTO customers (id) VALUES ('42')")
	must(err)
	first := orders.Order{ID: "o-1", Customer: "42", Units: 1}
	second := orders.Order{ID: "o-2", Customer: "42", Units: 2}
	must(orders.PlaceOrder(ctx, pool, first))
	must(orders.PlaceOrder(ctx, pool, second))
	refused(orders.PlaceOrder(ctx, pool, first))
	refused(orders.PlaceOrder(ctx, pool, orders.Order{ID: "o-3", Customer: "\n", Units: 3}))
	must(orders.Ship(ctx, pool, []orders.Order{first, {ID: "o-9", Customer: "7"}, second}))

	read, err := orders.SequenceOf(ctx, pool, "customer/42")
	must(err)
	if err := orders.CloseAccount(ctx, pool, "42", read-1); !errors.Is(err, orders.ErrConflict) {
		log.Fatalf("a stale version: %v", err)
	}
	must(orders.CloseAccount(ctx, pool, "42", read))

	order := orders.Order{ID: "o-4", Customer: "7", Units: 1}
	const commit = "00112233-4455-6677-8899-aabbccddeeff"
	must(orders.PlaceOrderOnce(ctx, pool, order, 1, commit))
	must(orders.PlaceOrderOnce(ctx, pool, order, 1, commit))
	err = orders.PlaceOrderOnce(ctx, pool, order, 1, "ffeeddcc-bbaa-9988-7766-554433221100")
	if !errors.Is(err, orders.ErrConflict) {
		log.Fatalf("somebody else's commit: %v", err)
	}
	fmt.Println("done")
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func refused(err error) {
	if err == nil {
		log.Fatal("what has to be refused went through")
	}
}
