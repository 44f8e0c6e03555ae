//! On SQLite: the tables, and the transaction that is the point of it all.

use std::path::Path;

use outbox_sql::sqlite::{self, InitOptions, Writer};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use crate::{
    money::Cents,
    order::Order,
    service::{CustomerTotals, OrdersError, Placed},
};

mod queue;

pub(crate) use queue::SqliteOrders;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS orders (
        order_id TEXT PRIMARY KEY,
        customer TEXT NOT NULL,
        date TEXT NOT NULL,
        quantity INTEGER NOT NULL,
        cents INTEGER NOT NULL,
        sequence INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS orders_of_customer ON orders (customer);
";

/// The database as its one writer sees it.
struct Tables {
    connection: Connection,
    writer: Writer,
}

impl Tables {
    /// Opens the database and makes its tables: ours, and those of the outbox.
    fn open(path: &Path, producer: &str) -> Result<Self, OrdersError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // An order that was answered must outlive the machine's power.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(TABLES)?;
        sqlite::init(&connection, &InitOptions::new(producer))
            .map_err(|error| OrdersError::Store(error.to_string()))?;
        Ok(Self { connection, writer: Writer::new() })
    }

    /// A second connection, so that who reads never waits for who writes.
    fn reader(path: &Path) -> Result<Connection, OrdersError> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(connection)
    }

    /// Places `orders` in one transaction, each with a savepoint of its own, and gives what became of each.
    fn place_all(&mut self, orders: Vec<Order>) -> Vec<Result<Placed, OrdersError>> {
        let count = orders.len();
        self.try_place_all(orders).unwrap_or_else(|error| {
            let why = error.to_string();
            (0..count).map(|_| Err(OrdersError::Busy(why.clone()))).collect()
        })
    }

    fn try_place_all(&mut self, orders: Vec<Order>) -> Result<Vec<Result<Placed, OrdersError>>, rusqlite::Error> {
        let mut transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut outcomes = Vec::with_capacity(orders.len());
        for order in orders {
            let mut savepoint = transaction.savepoint()?;
            let outcome = place(&savepoint, &self.writer, order);
            if outcome.is_err() {
                savepoint.rollback()?;
            }
            savepoint.commit()?;
            outcomes.push(outcome);
        }
        transaction.commit()?;
        Ok(outcomes)
    }

    fn order(connection: &Connection, id: &str) -> Result<Option<Order>, OrdersError> {
        Ok(find(connection, id)?.map(|(order, _)| order))
    }

    fn customer(connection: &Connection, id: &str) -> Result<Option<CustomerTotals>, OrdersError> {
        const TOTALS: &str =
            "SELECT count(*), coalesce(sum(quantity), 0), coalesce(sum(cents), 0) FROM orders WHERE customer = ?1";
        let totals = connection.prepare_cached(TOTALS)?.query_row([id], |row| {
            Ok(CustomerTotals {
                customer: id.to_owned(),
                orders: row.get(0)?,
                units: row.get(1)?,
                total: Cents(row.get(2)?),
            })
        })?;
        Ok((totals.orders > 0).then_some(totals))
    }
}

/// The whole pattern: in the caller's transaction, the order's row and the event about it.
fn place(transaction: &Connection, writer: &Writer, order: Order) -> Result<Placed, OrdersError> {
    if let Some((before, sequence)) = find(transaction, &order.order_id)? {
        let order_id = order.order_id.clone();
        return if before == order {
            Ok(Placed::Before { order_id, sequence })
        } else {
            Err(OrdersError::Reused { order_id })
        };
    }
    let event = order.placed().map_err(|error| OrdersError::Event(error.to_string()))?;
    let receipt = writer.write(transaction, event)?;
    let sequence = receipt.first.map_or(0, |place| place.sequence);
    let stored = sequence.cast_signed();
    let row = params![order.order_id, order.customer, order.date.to_string(), order.quantity, order.amount.0, stored];
    transaction
        .prepare_cached(
            "INSERT INTO orders (order_id, customer, date, quantity, cents, sequence) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(row)?;
    Ok(Placed::New { order_id: order.order_id, sequence })
}

fn find(connection: &Connection, id: &str) -> Result<Option<(Order, u64)>, OrdersError> {
    const ORDER: &str = "SELECT customer, date, quantity, cents, sequence FROM orders WHERE order_id = ?1";
    let row = connection
        .prepare_cached(ORDER)?
        .query_row([id], |row| {
            let date: String = row.get(1)?;
            Ok((row.get(0)?, date, row.get(2)?, row.get(3)?, row.get::<_, i64>(4)?.unsigned_abs()))
        })
        .optional()?;
    row.map(|(customer, date, quantity, cents, sequence)| {
        let date = date.parse().map_err(|_| OrdersError::Store(format!("order `{id}` has a `date` that is none")))?;
        Ok((Order { order_id: id.to_owned(), customer, date, quantity, amount: Cents(cents) }, sequence))
    })
    .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::NewOrder;

    fn order(id: &str) -> Order {
        let text = |text: &str| text.to_owned();
        let new = NewOrder {
            order_id: text(id),
            customer: text("00001"),
            date: text("1997-01-12"),
            quantity: 1,
            amount: text("12.00"),
        };
        new.check().unwrap()
    }

    fn rows(path: &Path) -> (i64, i64) {
        let count = "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM outbox_entries)";
        let reader = Tables::reader(path).unwrap();
        reader.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    }

    #[test]
    fn a_transaction_that_does_not_commit_leaves_neither_order_nor_event() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.db");
        let mut store = Tables::open(&path, "/orders").unwrap();
        let transaction = store.connection.transaction().unwrap();
        place(&transaction, &store.writer, order("o-1")).unwrap();
        // What a kill between the two writes and the commit leaves behind.
        drop(transaction);
        assert_eq!(rows(&path), (0, 0));
        let placed = store.place_all(vec![order("o-1")]);
        assert!(matches!(placed[..], [Ok(Placed::New { sequence: 1, .. })]), "{placed:?}");
        assert_eq!(rows(&path), (1, 1));
    }

    #[test]
    fn an_order_that_fails_does_not_fail_the_others_of_its_group() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.db");
        let mut store = Tables::open(&path, "/orders").unwrap();
        let other = Order { quantity: 2, ..order("o-1") };
        let placed = store.place_all(vec![order("o-1"), other, order("o-2")]);
        assert!(matches!(placed[..], [Ok(_), Err(OrdersError::Reused { .. }), Ok(_)]), "{placed:?}");
        assert_eq!(rows(&path), (2, 2));
    }

    #[test]
    fn a_service_that_starts_again_finds_its_orders() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.db");
        Tables::open(&path, "/orders").unwrap().place_all(vec![order("o-1")]);
        let placed = Tables::open(&path, "/orders").unwrap().place_all(vec![order("o-1"), order("o-2")]);
        assert!(
            matches!(placed[..], [Ok(Placed::Before { sequence: 1, .. }), Ok(Placed::New { sequence: 2, .. })]),
            "{placed:?}"
        );
    }
}
