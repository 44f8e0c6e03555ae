"""Does what orders.py can do, and what has to be refused. The tests read afterwards what was committed.

    python scenario.py URL                              all but the last function of orders.py
    python scenario.py URL once ORDER SEEN COMMIT_ID    that one: prints `placed`, `conflict` or `unknown`
"""

import sys

import psycopg
from orders import Conflict, Unknown, close_account, connect, place_order, place_order_once, sequence_of, ship


def refused(error, call, *arguments):
    try:
        call(*arguments)
    except error as refusal:
        return refusal
    sys.exit(f"{call.__name__}{arguments} went through")


def scenario(connection):
    connection.execute("INSERT INTO customers (id) VALUES ('42')")
    first, second = ({"id": f"o-{number}", "customer": "42", "units": number} for number in (1, 2))
    place_order(connection, first)
    place_order(connection, second)
    refused(psycopg.errors.UniqueViolation, place_order, connection, first)
    refusal = refused(psycopg.Error, place_order, connection, {"id": "o-3", "customer": "\n", "units": 3})
    assert refusal.diag.sqlstate == "22023" and "`key`" in str(refusal), refusal
    ship(connection, [first, {"id": "o-9", "customer": "7"}, second])

    read = sequence_of(connection, "customer/42")
    assert read == 3, read
    refused(Conflict, close_account, connection, "42", read - 1)
    close_account(connection, "42", read)
    assert sequence_of(connection, "customer/never") == 0


def once(url, order, seen, commit_id):
    try:
        place_order_once(lambda: connect(url), {"id": order, "customer": "42", "units": 1}, int(seen), commit_id)
        print("placed")
    except Conflict:
        print("conflict")
    except Unknown:
        print("unknown")


if __name__ == "__main__":
    if sys.argv[2:3] == ["once"]:
        once(sys.argv[1], *sys.argv[3:])
    else:
        with connect(sys.argv[1]) as connection:
            scenario(connection)
