//! Rows of `outbox_routes`.

use std::cell::RefCell;

use outbox::testing::properties::told;
use rusqlite::{Connection, params_from_iter};

use super::Cell;
use crate::sqlite::{schema, store::registrations};

/// The columns of a row: name, filter, start, start position, largest event, gapless, registered at.
pub const ROUTE_COLUMNS: usize = 7;

/// A row of `outbox_routes` with anything in its columns that the table takes: a registration, or an error that says
/// what to do.
///
/// # Panics
/// If a property does not hold.
pub fn route_row(cells: &[Cell; ROUTE_COLUMNS]) {
    thread_local!(static DATABASE: RefCell<Option<Connection>> = const { RefCell::new(None) });
    let good = [
        Cell::text("ledger"),
        Cell::text(r#"{"types":["order.*"]}"#),
        Cell::text("beginning"),
        Cell::text("0"),
        Cell::Integer(1 << 20),
        Cell::Integer(1),
        Cell::Integer(1_800_000_000_000),
    ];
    let row = cells.iter().zip(&good).map(|(cell, good)| cell.or(good));
    DATABASE.with_borrow_mut(|database| {
        let connection = database.get_or_insert_with(|| {
            let connection = Connection::open_in_memory().unwrap_or_else(|error| panic!("{error}"));
            connection.execute_batch(schema::sql()).unwrap_or_else(|error| panic!("{error}"));
            connection
        });
        let cleared = connection.execute("DELETE FROM outbox_routes", []);
        assert!(cleared.is_ok(), "{cleared:?}");
        let insert = "INSERT INTO outbox_routes (name, filter, start, start_position, max_event_bytes, gapless, \
                      registered_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        // The table itself refuses NULL in most columns.
        if connection.execute(insert, params_from_iter(row)).is_err() {
            return;
        }
        match registrations(connection) {
            Ok(found) => assert_eq!(found.len(), 1),
            Err(error) => told(&error.to_string()),
        }
    });
}
