//! What has to hold of whatever the server's log gives: each property once, for the fuzz targets and for the tests below.

use bytes::Bytes;
use outbox::testing::properties::{record, told};

use super::{
    pgoutput::{self, Change, Column, Relation},
    rows::{FIELDS, Layout, Rows},
};

/// How many columns an entry has.
pub const COLUMNS: usize = FIELDS.len();
/// The table's number.
const TABLE: u32 = 7;

/// What stands in a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// What the writer writes.
    Good,
    /// Nothing.
    Null,
    /// These bytes, in the binary form of some type.
    Bytes(Vec<u8>),
}

/// A message of any bytes: it is read or refused on one line.
///
/// # Panics
/// If a property does not hold.
pub fn log_message(bytes: &[u8]) {
    if let Err(error) = pgoutput::read(Bytes::copy_from_slice(bytes)) {
        told(&error.to_string());
    }
}

/// A row of the entries with anything in its columns: it becomes an entry, one that cannot be decoded, or an error that says
/// that the server and this program do not fit.
///
/// # Panics
/// If a property does not hold.
pub fn log_row(cells: &[Cell; COLUMNS]) {
    let mut rows = Rows::new("/orders", Layout::Entries);
    let columns = FIELDS.iter().map(|(name, kind, _)| Column { name: (*name).to_owned(), kind: *kind });
    let relation =
        Relation { id: TABLE, schema: "outbox".to_owned(), name: "entries".to_owned(), columns: columns.collect() };
    assert!(rows.relation(&relation).is_ok(), "the table is as it has to be");
    let Ok(Change::Insert { relation, row }) = pgoutput::read(message(cells).into()) else {
        panic!("a row that was sent as the protocol says is not read")
    };
    match rows.decode(relation, &row, None) {
        Ok(Some((_, found))) => record(&found),
        Ok(None) => panic!("the table's own row is passed over"),
        Err(error) => told(&error.to_string()),
    }
}

/// The cells that `bytes` stand for: of each a byte that says what it is, and how long.
pub fn cells(mut bytes: &[u8]) -> [Cell; COLUMNS] {
    std::array::from_fn(|_| {
        let Some((what, rest)) = bytes.split_first() else { return Cell::Good };
        bytes = rest;
        match what {
            0..128 => Cell::Good,
            128..144 => Cell::Null,
            _ => {
                let (cell, rest) = bytes.split_at(usize::from(what - 144).min(bytes.len()));
                bytes = rest;
                Cell::Bytes(cell.to_vec())
            }
        }
    })
}

/// The row as the server sends it.
fn message(cells: &[Cell; COLUMNS]) -> Vec<u8> {
    let mut message = vec![b'I'];
    message.extend(TABLE.to_be_bytes());
    message.push(b'N');
    message.extend(u16::try_from(COLUMNS).unwrap_or(u16::MAX).to_be_bytes());
    for (cell, good) in cells.iter().zip(good()) {
        let cell = if *cell == Cell::Good { &good } else { cell };
        match cell {
            Cell::Bytes(bytes) => {
                message.push(b'b');
                message.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
                message.extend(bytes);
            }
            Cell::Good | Cell::Null => message.push(b'n'),
        }
    }
    message
}

/// A row as the writer writes it.
fn good() -> [Cell; COLUMNS] {
    let bytes = |bytes: &[u8]| Cell::Bytes(bytes.to_vec());
    [
        bytes(&3_i64.to_be_bytes()),
        bytes(&9_i64.to_be_bytes()),
        bytes(&800_000_000_000_000_i64.to_be_bytes()),
        bytes(&2_i64.to_be_bytes()),
        bytes(&1_i32.to_be_bytes()),
        bytes(&1_i32.to_be_bytes()),
        bytes(&[7; 16]),
        bytes(b"order/1"),
        bytes(b"1.1.0"),
        bytes(b"order.placed"),
        Cell::Null,
        Cell::Null,
        bytes(br#"{"units":3}"#),
        Cell::Null,
        Cell::Null,
        Cell::Null,
    ]
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    /// Texts that one of the columns takes, or nearly takes.
    const TEXTS: &[&str] = &[
        "",
        "1.1.0",
        "0.0.0",
        "1.9223372036854775808.0",
        "{}",
        r#"{"subject":"s","time":"2026-11-21T09:30:00Z","tenant":true}"#,
        r#"{"BAD\nNAME":1}"#,
        r#"[{"type":"u","data":{}}]"#,
        r#"[{"type":7}]"#,
        "line\nbreak",
    ];

    fn cell() -> impl Strategy<Value = Cell> {
        prop_oneof![
            1 => Just(Cell::Null),
            1 => prop_oneof![any::<i64>(), -2..3_i64].prop_map(|number| Cell::Bytes(number.to_be_bytes().to_vec())),
            1 => prop_oneof![any::<i32>(), -2..3_i32].prop_map(|number| Cell::Bytes(number.to_be_bytes().to_vec())),
            2 => select(TEXTS).prop_map(|text| Cell::Bytes(text.into())),
            1 => any::<String>().prop_map(|text| Cell::Bytes(text.into())),
            1 => vec(any::<u8>(), 0..40).prop_map(Cell::Bytes),
        ]
    }

    #[test]
    fn the_good_row_is_an_entry() {
        let mut rows = Rows::new("/orders", Layout::Entries);
        let columns = FIELDS.iter().map(|(name, kind, _)| Column { name: (*name).to_owned(), kind: *kind }).collect();
        rows.relation(&Relation { id: TABLE, schema: "outbox".into(), name: "entries".into(), columns }).unwrap();
        let good = std::array::from_fn(|_| Cell::Good);
        let Ok(Change::Insert { row, .. }) = pgoutput::read(message(&good).into()) else { panic!("no row") };
        let (id, found) = rows.decode(TABLE, &row, None).unwrap().unwrap();
        assert_eq!((id, found.events()[0].id()), (3, "order/1@1.2.0"));
    }

    proptest! {
        #[test]
        fn any_row_of_the_log_is_an_entry_or_says_why_not(changes in vec((0..COLUMNS, cell()), 0..4)) {
            let mut cells = std::array::from_fn(|_| Cell::Good);
            for (column, cell) in changes {
                cells[column] = cell;
            }
            log_row(&cells);
        }

        #[test]
        fn any_bytes_stand_for_a_row(bytes in vec(any::<u8>(), 0..300)) {
            log_row(&cells(&bytes));
            log_message(&bytes);
        }
    }
}
