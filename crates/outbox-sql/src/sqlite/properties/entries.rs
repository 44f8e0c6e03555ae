//! Rows of `outbox_entries`.

use std::cell::RefCell;

use outbox::{
    Content, Events, Key, Record, Undecodable,
    testing::properties::{self, hides, hides_payload, told},
};
use rusqlite::{Connection, params_from_iter};

use super::Cell;
use crate::sqlite::{
    decode::{COLUMNS as READ, Decoder},
    schema,
};

/// The columns of a row but its id: key, incarnation, sequence, count, after, commit id, recorded at, type, event id,
/// content type, data, attributes, more.
pub const COLUMNS: usize = 13;
const KEY: usize = 0;
const DATA: usize = 10;
const MORE: usize = 12;
/// The arbitrary row; a good one stands before and behind it.
const ROW: i64 = 2;
const PRODUCER: &str = "/orders";

/// A row of `outbox_entries` with anything in its columns: it becomes a record with its events, or an undecodable one
/// that says why; the rows before and behind it are read all the same.
///
/// # Panics
/// If a property does not hold.
pub fn entry_row(cells: &[Cell; COLUMNS]) {
    thread_local!(static DATABASE: RefCell<Option<Connection>> = const { RefCell::new(None) });
    let row: Vec<Cell> = cells.iter().zip(good()).map(|(cell, good)| cell.or(&good)).collect();
    let records = DATABASE.with_borrow_mut(|database| {
        let connection =
            database.get_or_insert_with(|| database_with_tables().unwrap_or_else(|error| panic!("{error}")));
        read(connection, &row).unwrap_or_else(|error| panic!("the source stops: {error}"))
    });
    let [before, record, behind] = &records[..] else { panic!("{} records of 3 rows", records.len()) };
    for good in [before, behind] {
        assert!(matches!(good.content, Content::Events(_)), "a good row beside was spoilt: {good:?}");
    }
    assert_eq!(record.position.as_str(), ROW.to_string());
    match &record.content {
        Content::Events(events) => decoded(record, events, &row),
        Content::Undecodable(undecodable) => set_aside(undecodable, &row),
    }
}

/// A row as the writer writes it.
fn good() -> [Cell; COLUMNS] {
    [
        Cell::text("order/1"),
        Cell::Integer(1),
        Cell::Integer(2),
        Cell::Integer(1),
        Cell::text("1.1.0"),
        Cell::Blob((1..=16).collect()),
        Cell::Integer(1_800_000_000_000),
        Cell::text("order.placed"),
        Cell::Null,
        Cell::Null,
        Cell::text(r#"{"units":3}"#),
        Cell::Null,
        Cell::Null,
    ]
}

fn database_with_tables() -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(schema::sql())?;
    Ok(connection)
}

fn read(connection: &Connection, row: &[Cell]) -> rusqlite::Result<Vec<Record>> {
    connection.execute("DELETE FROM outbox_entries", [])?;
    let names = READ.trim_start_matches("id, ");
    let mut insert = connection.prepare_cached(&format!(
        "INSERT INTO outbox_entries (id, {names}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
    ))?;
    let good = good();
    for (id, row) in [(ROW - 1, &good[..]), (ROW, row), (ROW + 1, &good[..])] {
        let id = Cell::Integer(id);
        insert.execute(params_from_iter(std::iter::once(&id).chain(row)))?;
    }
    let mut decoder = Decoder::new(PRODUCER);
    let mut select = connection.prepare_cached(&format!("SELECT {READ} FROM outbox_entries ORDER BY id"))?;
    let mut rows = select.query([])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let (seen, record) = decoder.record(row)?;
        assert_eq!((seen.id, seen.commit), (Decoder::seen(row)?.id, record.commit));
        records.push(record);
    }
    Ok(records)
}

/// An entry's events keep their rules and its order, and can be kept and published.
fn decoded(record: &Record, events: &Events, row: &[Cell]) {
    properties::record(record);
    for event in events.iter() {
        assert_eq!(event.source(), PRODUCER);
        assert_eq!(event.placing().is_some(), event.key().is_some());
    }
    let written: usize = row.iter().map(|cell| cell.bytes().len()).sum();
    assert!(record.weight() <= 1024 + 128 * written, "{} bytes of a row of {written}", record.weight());
}

/// A row that is no entry says which column is wrong, shows no payload, and keeps its key's later events behind it.
fn set_aside(undecodable: &Undecodable, row: &[Cell]) {
    let Undecodable { id, key, reason, raw } = undecodable;
    assert_eq!(**id, *format!("row/{ROW}"));
    told(reason);
    let column = reason.strip_prefix(&format!("row {ROW} of outbox_entries: `"));
    assert!(column.is_some_and(|column| column.contains('`')), "no column is named: {reason}");
    hidden(row, reason);
    let expected = match &row[KEY] {
        Cell::Text(bytes) => std::str::from_utf8(bytes).ok().and_then(|text| Key::new(text).ok()),
        // The column makes text of a number.
        Cell::Integer(number) => Key::new(number.to_string()).ok(),
        Cell::Real(_) => key.clone(),
        Cell::Good | Cell::Null | Cell::Blob(_) => None,
    };
    assert_eq!(*key, expected, "its key's later events have to wait");
    let shown: serde_json::Value = serde_json::from_slice(raw).unwrap_or_default();
    assert_eq!(shown.as_object().map(serde_json::Map::len), Some(COLUMNS + 1), "not shown as it was found");
    let written: usize = row.iter().map(|cell| cell.bytes().len()).sum();
    assert!(raw.len() <= 1024 + 6 * written, "{} bytes of a row of {written}", raw.len());
}

/// Nothing of the column `data`, nor of what `more` holds as payloads.
fn hidden(row: &[Cell], reason: &str) {
    let texts: Vec<_> = row.iter().map(|cell| String::from_utf8_lossy(cell.bytes())).collect();
    let all = texts.join(" ");
    hides(&texts[DATA], &all, reason);
    hides_payload(&texts[MORE], &all, reason);
    // What is no list of events may be a payload that got into the wrong column.
    if let Ok(serde_json::Value::String(text)) = serde_json::from_str(&texts[MORE]) {
        hides(&text, &all, reason);
    }
}
