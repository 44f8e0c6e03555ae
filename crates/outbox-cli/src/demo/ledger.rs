//! The ledger: what each customer has bought, in units and cents. Its effects build on each other, so it wants every
//! order once and in its order: mode `in_order`.

use std::path::Path;

use orders::Order;
use outbox::{Event, inbox::Answer};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{
    chaos::Role,
    consumer::{self, Inbox},
    purchases::Account,
};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS accounts (
        customer TEXT PRIMARY KEY,
        orders INTEGER NOT NULL,
        units INTEGER NOT NULL,
        cents INTEGER NOT NULL,
        fingerprint INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS applied (id INTEGER PRIMARY KEY, order_id TEXT NOT NULL);
";

/// The ledger's inbox, over its own database.
///
/// # Errors
/// That the database cannot be opened.
pub(crate) fn inbox(folder: &Path) -> Result<Inbox, String> {
    consumer::inbox(folder, Role::Ledger, outbox::inbox::Mode::InOrder, TABLES, apply)
}

/// Adds one order to its customer's account, in the inbox's transaction.
fn apply(transaction: &Transaction<'_>, event: &Event) -> Answer {
    add(transaction, event).into()
}

fn add(transaction: &Connection, event: &Event) -> Result<(), Box<dyn std::error::Error>> {
    let order: Order = event.json()?;
    let account = "SELECT orders, units, cents, fingerprint FROM accounts WHERE customer = ?1";
    let before = transaction.prepare_cached(account)?.query_row([&order.customer], |row| {
        Ok(Account { orders: row.get(0)?, units: row.get(1)?, cents: row.get(2)?, fingerprint: row.get(3)? })
    });
    let mut account = before.optional()?.unwrap_or_default();
    account.add(&order.order_id, order.quantity, order.amount);
    transaction
        .prepare_cached(
            "INSERT INTO accounts (customer, orders, units, cents, fingerprint) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (customer) DO UPDATE SET orders = ?2, units = ?3, cents = ?4, fingerprint = ?5",
        )?
        .execute(params![order.customer, account.orders, account.units, account.cents, account.fingerprint])?;
    transaction.prepare_cached("INSERT INTO applied (order_id) VALUES (?1)")?.execute([order.order_id])?;
    Ok(())
}
