// Does what orders.js can do, and what has to be refused. The tests read afterwards what was committed.
//
//     node scenario.js URL                              all but the last function of orders.js
//     node scenario.js URL once ORDER SEEN COMMIT_ID    that one: prints `placed`, `conflict` or `unknown`

import assert from "node:assert/strict";
import { Conflict, Unknown, closeAccount, open, placeOrder, placeOrderOnce, sequenceOf, ship } from "./orders.js";

async function scenario(pool) {
  await pool.query("INSERT INTO customers (id) VALUES ('42')");
  const [first, second] = [1, 2].map((number) => ({ id: `o-${number}`, customer: "42", units: number }));
  await placeOrder(pool, first);
  await placeOrder(pool, second);
  await assert.rejects(placeOrder(pool, first), { code: "23505" });
  await assert.rejects(placeOrder(pool, { id: "o-3", customer: "\n", units: 3 }), { code: "22023", message: /`key`/ });
  await ship(pool, [first, { id: "o-9", customer: "7" }, second]);

  const read = await sequenceOf(pool, "customer/42");
  assert.equal(read, 3);
  await assert.rejects(closeAccount(pool, "42", read - 1), Conflict);
  await closeAccount(pool, "42", read);
  assert.equal(await sequenceOf(pool, "customer/never"), 0);
}

async function once(pool, order, seen, commitId) {
  try {
    await placeOrderOnce(pool, { id: order, customer: "42", units: 1 }, Number(seen), commitId);
    console.log("placed");
  } catch (error) {
    if (!(error instanceof Conflict || error instanceof Unknown)) throw error;
    console.log(error instanceof Conflict ? "conflict" : "unknown");
  }
}

const [url, command, ...rest] = process.argv.slice(2);
const pool = open(url);
await (command === "once" ? once(pool, ...rest) : scenario(pool));
await pool.end();
