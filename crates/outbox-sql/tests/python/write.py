"""A service in Python, writing its events as docs/table-layout.md shows. Its own data is the table `orders`."""

import json
import os
import sqlite3
import sys


def connect(path):
    connection = sqlite3.connect(path, timeout=5, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def place_order(connection, order):
    with connection:  # commits, or rolls back if anything raises
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO orders (id, customer, units) VALUES (?, ?, ?)",
            (order["id"], order["customer"], order["units"]),
        )
        connection.execute(
            "INSERT INTO outbox (key, type, data) VALUES (?, ?, ?)",
            (f"customer/{order['customer']}", "order.placed", json.dumps(order)),
        )


class Conflict(Exception):
    """Somebody else wrote to the key since it was read: read it again and decide again."""


def sequence_of(connection, key):
    row = connection.execute("SELECT sequence FROM outbox_heads WHERE key = ?", (key,)).fetchone()
    return row[0] if row else 0


def close_account(connection, customer, sequence_when_read):
    try:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO outbox (key, type, expected) VALUES (?, ?, ?)",
                (f"customer/{customer}", "account.closed", sequence_when_read),
            )
    except sqlite3.IntegrityError as refusal:
        if str(refusal).startswith("outbox: conflict"):
            raise Conflict from refusal
        raise


def cancel_order(connection, customer, order_id):
    further = [
        {"type": "payment.refunded", "data": {"order": order_id}, "attributes": {"tenant": "north"}},
        {"type": "label.voided", "content_type": "image/png", "data_base64": "iVBORw=="},
    ]
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO outbox (key, type, data, attributes, more) VALUES (?, ?, ?, ?, ?)",
            (
                f"customer/{customer}",
                "order.cancelled",
                json.dumps({"order": order_id}),
                json.dumps({"subject": order_id, "correlationid": "request-7"}),
                json.dumps(further),
            ),
        )


def store_scan(connection, customer, picture):
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO outbox (key, type, content_type, data) VALUES (?, ?, ?, ?)",
            (f"customer/{customer}", "scan.stored", "image/png", picture),
        )


SETTLE = """\
WITH RECURSIVE chain (sequence, commit_id, previous_id) AS (
    SELECT entry.sequence, entry.commit_id, entry.previous_id
    FROM outbox_heads AS head JOIN outbox_entries AS entry ON entry.id = head.entry_id
    WHERE head.key = ?1
    UNION ALL
    SELECT entry.sequence, entry.commit_id, entry.previous_id
    FROM chain JOIN outbox_entries AS entry ON entry.id = chain.previous_id
    WHERE chain.sequence > ?2
)
SELECT (SELECT sequence FROM outbox_heads WHERE key = ?1), (SELECT commit_id FROM chain WHERE sequence = ?2)"""


def was_committed(connection, key, sequence, commit_id):
    latest, found = connection.execute(SETTLE, (key, sequence)).fetchone()
    if found is not None:
        return found == commit_id
    if (latest or 0) < sequence:
        return False
    return None  # purged since: it cannot be told


def main(path):
    connection = connect(path)
    connection.execute("CREATE TABLE orders (id TEXT PRIMARY KEY, customer TEXT, units INTEGER)")
    place_order(connection, {"id": "o-1", "customer": "42", "units": 3})
    try:
        place_order(connection, {"id": "o-1", "customer": "42", "units": 9})
        sys.exit("an order was placed twice")
    except sqlite3.IntegrityError as refusal:
        assert "orders.id" in str(refusal), refusal
    cancel_order(connection, "42", "o-1")
    store_scan(connection, "42", b"\x89PNG\x00\xff")

    read = sequence_of(connection, "customer/42")
    assert read == 3, read
    try:
        close_account(connection, "42", read - 1)
        sys.exit("a stale version went through")
    except Conflict:
        close_account(connection, "42", read)

    commit_id = os.urandom(16)
    write = "INSERT INTO outbox (key, type, commit_id) VALUES ('customer/7', 'lost.answer', ?)"
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(write, (commit_id,))
    connection.execute("ROLLBACK")
    assert was_committed(connection, "customer/7", 1, commit_id) is False
    connection.execute(write, (commit_id,))
    assert was_committed(connection, "customer/7", 1, commit_id) is True
    assert was_committed(connection, "customer/7", 1, os.urandom(16)) is False

    for key in ["", "a\nb", "x" * 513, b"bytes", 42]:
        try:
            connection.execute("INSERT INTO outbox (key, type) VALUES (?, 't')", (key,))
            sys.exit(f"the key {key!r} was taken")
        except sqlite3.IntegrityError as refusal:
            assert "`key`" in str(refusal), refusal
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1])
