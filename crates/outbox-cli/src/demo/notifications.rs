//! The notifications: one to the customer for each order. They don't build on each other: mode `once`.

use std::path::Path;

use orders::Order;
use outbox::{Event, inbox::Answer};
use rusqlite::{Connection, Transaction};

use super::{
    chaos::Role,
    consumer::{self, Inbox},
};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS notifications (
        id INTEGER PRIMARY KEY,
        order_id TEXT NOT NULL,
        customer TEXT NOT NULL,
        state TEXT NOT NULL
    );
";

/// The inbox of the notifications, over a database of its own.
///
/// # Errors
/// That the database cannot be opened.
pub(crate) fn inbox(folder: &Path) -> Result<Inbox, String> {
    consumer::inbox(folder, Role::Notifications, outbox::inbox::Mode::Once, TABLES, apply)
}

/// Notes that the customer was notified. There is no unique index on the order: a duplicate that got through would be
/// seen.
fn apply(transaction: &Transaction<'_>, event: &Event) -> Answer {
    send(transaction, event).into()
}

fn send(transaction: &Connection, event: &Event) -> Result<(), Box<dyn std::error::Error>> {
    let order: Order = event.json()?;
    transaction
        .prepare_cached("INSERT INTO notifications (order_id, customer, state) VALUES (?1, ?2, 'sent')")?
        .execute([order.order_id, order.customer])?;
    Ok(())
}
