//! Rows of the bookkeeping with anything in their columns: what was kept, or an error that says what to do.

use std::cell::RefCell;

use outbox::{
    StoreError,
    bookkeeping::{FrontState, Kept, KeptContent},
    testing::properties::{event, hides, told},
};
use rusqlite::{Connection, Row, params_from_iter};

use super::{
    codec::{self, StoredFront, StoredKept, StoredTrouble},
    routes::{self, StoredReplay},
};
use crate::sqlite::properties::Cell;

/// The columns of a kept event: id, event's id, partition, position, key, content, undecodable.
pub const KEPT_COLUMNS: usize = 7;
/// The columns of a trouble: lane, generation, kept, state, due, discard reason, attempts, failed since, reason.
pub const TROUBLE_COLUMNS: usize = StoredTrouble::WIDTH;
/// The columns of a replay: id, route, filter, event, since, until, ends, finished.
pub const REPLAY_COLUMNS: usize = 8;

const CONTENT: &str =
    r#"{"specversion":"1.0","id":"1","source":"/orders","type":"order.placed","partitionkey":"a","data":{"units":3}}"#;

/// A row with `cells`, or `good` in their place, as `read` makes it out; `None` if a column is of another type, which
/// the store says in its own words.
fn read<T, const N: usize>(
    cells: &[Cell; N],
    good: &[Cell; N],
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Option<T> {
    let row = cells.iter().zip(good).map(|(cell, good)| cell.or(good));
    with_tables(|connection| {
        let numbers: Vec<_> = (1..=N).map(|number| format!("?{number}")).collect();
        let sql = format!("SELECT {}", numbers.join(", "));
        let mut statement = connection.prepare_cached(&sql).unwrap_or_else(|error| panic!("{error}"));
        statement.query_row(params_from_iter(row), read).ok()
    })
}

fn with_tables<T>(work: impl FnOnce(&Connection) -> T) -> T {
    thread_local!(static DATABASE: RefCell<Option<Connection>> = const { RefCell::new(None) });
    DATABASE.with_borrow_mut(|database| {
        let connection = database.get_or_insert_with(|| {
            let connection = Connection::open_in_memory().unwrap_or_else(|error| panic!("{error}"));
            connection.execute_batch(include_str!("layout_1.sql")).unwrap_or_else(|error| panic!("{error}"));
            connection
        });
        work(connection)
    })
}

fn refused(error: &StoreError) {
    told(&error.to_string());
}

/// A row of `kept`.
///
/// # Panics
/// If a property does not hold.
pub fn kept_row(cells: &[Cell; KEPT_COLUMNS]) {
    let good = [
        Cell::Integer(1),
        Cell::text("1"),
        Cell::text("entries"),
        Cell::text("1"),
        Cell::text("a"),
        Cell::Blob(CONTENT.as_bytes().to_vec()),
        Cell::Null,
    ];
    let Some(stored) = read(cells, &good, StoredKept::read) else { return };
    match stored.kept() {
        Ok(kept) => again(&kept),
        Err(error) => {
            refused(&error);
            let content = String::from_utf8_lossy(cells[5].bytes());
            hides(&content, &content, &error.to_string());
        }
    }
}

/// What was kept is kept again, and is the same.
fn again(kept: &Kept) {
    if let KeptContent::Event(kept) = &kept.content {
        event(kept);
    }
    let encoded = codec::encode(&kept.content);
    let text = |text: &str| Cell::text(text);
    let number = |number: u64| Cell::Integer(number.cast_signed());
    let row = [
        number(kept.id.0),
        text(&encoded.id),
        text(kept.partition.as_str()),
        text(kept.position.as_str()),
        encoded.key.as_deref().map_or(Cell::Null, text),
        Cell::Blob(encoded.content),
        encoded.undecodable.as_deref().map_or(Cell::Null, text),
    ];
    let read = read(&row, &row, StoredKept::read).map(StoredKept::kept);
    assert!(matches!(&read, Some(Ok(read)) if read == kept), "kept again it is {read:?}");
}

/// A row of `troubles`.
///
/// # Panics
/// If a property does not hold.
pub fn trouble_row(cells: &[Cell; TROUBLE_COLUMNS]) {
    let good = [
        Cell::text("k:order/1"),
        Cell::Integer(1),
        Cell::Integer(1),
        Cell::text("retrying"),
        Cell::text("2026-11-21T09:30:00.5Z"),
        Cell::text("no longer wanted"),
        Cell::Integer(3),
        Cell::text("2026-11-21T09:00:00Z"),
        Cell::text("said no"),
    ];
    let Some(stored) = read(cells, &good, StoredTrouble::read) else { return };
    let trouble = match stored.trouble() {
        Ok(trouble) => trouble,
        Err(error) => return refused(&error),
    };
    let front = StoredFront::of(&trouble.front);
    let row = [
        Cell::text(&trouble.lane.to_text()),
        Cell::Integer(trouble.generation.cast_signed()),
        Cell::Integer(trouble.kept.cast_signed()),
        Cell::text(front.state),
        front.due.as_deref().map_or(Cell::Null, Cell::text),
        front.discard_reason.map_or(Cell::Null, Cell::text),
        Cell::Integer(front.attempts.into()),
        Cell::text(&front.failed_since),
        Cell::text(front.reason),
    ];
    assert_eq!(front.due.is_some(), matches!(trouble.front.state, FrontState::Retrying { .. }));
    let read = read(&row, &row, StoredTrouble::read).map(StoredTrouble::trouble);
    let same = matches!(&read, Some(Ok(read)) if *read == trouble);
    assert!(same, "stored again it is {read:?}");
}

/// A row of `replays`.
///
/// # Panics
/// If a property does not hold.
pub fn replay_row(cells: &[Cell; REPLAY_COLUMNS]) {
    let good = [
        Cell::text("1"),
        Cell::text("ledger"),
        Cell::text(r#"{"types":["order.*"]}"#),
        Cell::Null,
        Cell::text("2026-11-21T09:30:00Z"),
        Cell::Null,
        Cell::text(r#"[["entries","42"]]"#),
        Cell::Integer(0),
    ];
    let Some(stored) = read(cells, &good, StoredReplay::read) else { return };
    let replay = match stored.replay() {
        Ok(replay) => replay,
        Err(error) => return refused(&error),
    };
    let stored = with_tables(|connection| {
        let cleared = connection.execute("DELETE FROM replays", []);
        assert!(cleared.is_ok(), "{cleared:?}");
        routes::put_replay(connection, &replay).and_then(|()| routes::replays(connection))
    });
    assert!(matches!(&stored, Ok(stored) if *stored == [replay]), "stored again it is {stored:?}");
}
