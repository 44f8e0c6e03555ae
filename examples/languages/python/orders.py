"""A service in Python that writes its events with psycopg 3, each in the transaction that it is about."""

import time

import psycopg
from psycopg.types.json import Json


def connect(url):
    # Without autocommit a transaction is open from the first SELECT on, and `transaction()` would not commit it.
    # Without prepared statements it works through PgBouncer, whatever its version.
    return psycopg.connect(url, autocommit=True, prepare_threshold=None)


def place_order(connection, order):
    with connection.transaction():  # commits, or rolls back if anything raises
        connection.execute(
            "INSERT INTO orders (id, customer, units) VALUES (%(id)s, %(customer)s, %(units)s)", order
        )
        connection.execute(
            "SELECT outbox.write(%s, %s, %s)", (f"customer/{order['customer']}", "order.placed", Json(order))
        )


class Conflict(Exception):
    """Somebody else wrote to the key since it was read: read it again and decide again."""


def sequence_of(connection, key):
    row = connection.execute("SELECT sequence FROM outbox.heads WHERE key = %s", (key,)).fetchone()
    return row[0] if row else 0


def close_account(connection, customer, sequence_when_read):
    try:
        with connection.transaction():
            connection.execute("UPDATE customers SET is_open = false WHERE id = %s", (customer,))
            connection.execute(
                "SELECT outbox.write(%s, %s, expected => %s)",
                (f"customer/{customer}", "account.closed", sequence_when_read),
            )
    except psycopg.Error as refusal:
        if refusal.diag.sqlstate == "OX001":
            raise Conflict from refusal
        raise


def ship(connection, orders):
    events = [
        {"key": f"customer/{order['customer']}", "type": "order.shipped", "data": {"id": order["id"]}}
        for order in orders
    ]
    events.append({"type": "parcels.counted", "data": len(orders), "attributes": {"subject": "depot-1"}})
    with connection.transaction():
        connection.execute(
            "UPDATE orders SET status = 'shipped' WHERE id = ANY(%s)", ([order["id"] for order in orders],)
        )
        connection.execute("SELECT outbox.write_all(%s)", (Json(events),))


class Unknown(Exception):
    """Purged since, so nobody can tell whether an earlier attempt was committed: look for what it changed."""


def place_order_once(open_connection, order, sequence_when_read, commit_id):
    """Also where the answer to a COMMIT is lost. `commit_id` is a UUID of the caller's; the same one, the same order."""
    key = f"customer/{order['customer']}"
    for attempt in range(8):
        try:
            with open_connection() as connection:
                try:
                    with connection.transaction():
                        connection.execute(
                            "SELECT outbox.write(%s, %s, %s, expected => %s, commit_id => %s)",
                            (key, "order.placed", Json(order), sequence_when_read, commit_id),
                        )
                        connection.execute(
                            "INSERT INTO orders (id, customer, units) VALUES (%(id)s, %(customer)s, %(units)s)", order
                        )
                    return
                except psycopg.Error as refusal:
                    if refusal.diag.sqlstate != "OX001":
                        raise
                    # An earlier attempt of this order, whose answer was lost, or somebody else?
                    (is_ours,) = connection.execute(
                        "SELECT outbox.committed(%s, %s, %s)", (key, sequence_when_read + 1, commit_id)
                    ).fetchone()
                    if is_ours:
                        return
                    raise (Unknown if is_ours is None else Conflict) from refusal
        except psycopg.OperationalError:  # the connection is lost, or the server asks to try again
            time.sleep(0.05 * 2**attempt)
    raise TimeoutError("it is not known whether the order was placed: try again with the same commit id, before the retention is over")
