// A service in Node that writes its events with pg, each in the transaction that it is about.

import pg from "pg";

export function open(url) {
  const pool = new pg.Pool({ connectionString: url });
  pool.on("error", () => {}); // an idle connection was lost, and the pool makes another; unheard, it would end the process
  return pool;
}

/** Runs `work` in a transaction: commits, or rolls back if anything throws. */
export async function transaction(pool, work) {
  const client = await pool.connect();
  let broken;
  const lost = (error) => (broken = error);
  client.on("error", lost); // as above, for one that is in use
  try {
    await client.query("BEGIN");
    const result = await work(client);
    await client.query("COMMIT");
    return result;
  } catch (error) {
    await client.query("ROLLBACK").catch(lost);
    throw error;
  } finally {
    client.off("error", lost);
    client.release(broken); // a broken connection does not go back into the pool
  }
}

export async function placeOrder(pool, order) {
  await transaction(pool, async (client) => {
    await client.query("INSERT INTO orders (id, customer, units) VALUES ($1, $2, $3)", [
      order.id, order.customer, order.units,
    ]);
    await client.query("SELECT outbox.write($1, $2, $3)", [
      `customer/${order.customer}`, "order.placed", JSON.stringify(order),
    ]);
  });
}

/** Somebody else wrote to the key since it was read: read it again and decide again. */
export class Conflict extends Error {}

export async function sequenceOf(pool, key) {
  const { rows } = await pool.query("SELECT sequence FROM outbox.heads WHERE key = $1", [key]);
  return rows.length ? Number(rows[0].sequence) : 0; // pg gives a bigint as text
}

export async function closeAccount(pool, customer, sequenceWhenRead) {
  try {
    await transaction(pool, async (client) => {
      await client.query("UPDATE customers SET is_open = false WHERE id = $1", [customer]);
      await client.query("SELECT outbox.write($1, $2, expected => $3)", [
        `customer/${customer}`, "account.closed", sequenceWhenRead,
      ]);
    });
  } catch (error) {
    throw error.code === "OX001" ? new Conflict(error.message, { cause: error }) : error;
  }
}

export async function ship(pool, orders) {
  const events = orders.map((order) => ({
    key: `customer/${order.customer}`, type: "order.shipped", data: { id: order.id },
  }));
  events.push({ type: "parcels.counted", data: orders.length, attributes: { subject: "depot-1" } });
  await transaction(pool, async (client) => {
    await client.query("UPDATE orders SET status = 'shipped' WHERE id = ANY($1)", [orders.map((order) => order.id)]);
    // As text: pg would make a PostgreSQL array of an array.
    await client.query("SELECT outbox.write_all($1)", [JSON.stringify(events)]);
  });
}

/** Purged since, so nobody can tell whether an earlier attempt was committed: look for what it changed. */
export class Unknown extends Error {}

/** Also where the answer to a COMMIT is lost. `commitId` is a UUID of the caller's; the same one, the same order. */
export async function placeOrderOnce(pool, order, sequenceWhenRead, commitId) {
  const key = `customer/${order.customer}`;
  for (let attempt = 0; attempt < 8; attempt++) {
    try {
      await transaction(pool, async (client) => {
        await client.query("SELECT outbox.write($1, $2, $3, expected => $4, commit_id => $5)", [
          key, "order.placed", JSON.stringify(order), sequenceWhenRead, commitId,
        ]);
        await client.query("INSERT INTO orders (id, customer, units) VALUES ($1, $2, $3)", [
          order.id, order.customer, order.units,
        ]);
      });
      return;
    } catch (error) {
      if (error.code === "OX001") {
        // An earlier attempt of this order, whose answer was lost, or somebody else?
        const { rows } = await pool.query("SELECT outbox.committed($1, $2, $3) AS is_ours", [
          key, sequenceWhenRead + 1, commitId,
        ]);
        if (rows[0].is_ours) return;
        throw new (rows[0].is_ours === null ? Unknown : Conflict)(error.message, { cause: error });
      }
      // What the server refused, it will refuse again, unless it asks to try again; and the connection may be lost.
      if (error.severity && !/^(08|40|53|57)/.test(error.code)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50 * 2 ** attempt));
    }
  }
  throw new Error("it is not known whether the order was placed: try again with the same commit id, before the retention is over");
}
