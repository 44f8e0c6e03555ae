//! The properties, quickly: what the fuzzer looks for longer.

use outbox::{PartitionId, Position, Source, source::Limit};
use proptest::{collection::vec, prelude::*, sample::select};
use rusqlite::{Connection, params_from_iter};

use super::{COLUMNS, Cell, entry_row, kept_row, replay_row, route_row, stored_row, trouble_row};
use crate::sqlite::{InitOptions, SqliteStore, StoreOptions, decode, init};

/// Texts that one of the columns takes, or nearly takes.
const TEXTS: &[&str] = &[
    "",
    "1",
    "retrying",
    "dead",
    "discarded",
    "now",
    "e:1",
    "k:",
    "1.1.0",
    "0.0.0",
    "1.9223372036854775808.0",
    "2026-11-21T09:30:00Z",
    "2026-02-30T00:00:00Z",
    "-009999-01-02T01:59:59Z",
    "{}",
    r#"{"subject":"s","time":"2026-11-21T09:30:00Z","tenant":true,"rank":-7}"#,
    r#"{"time":"2026-11-21T09:30[Europe/Berlin]"}"#,
    r#"{"BAD\nNAME":1}"#,
    r#"[{"type":"u","data":{"hush":"hush-hush-payload"}}]"#,
    r#"[{"type":"u","data":"hush-hush-payload","data_base64":""}]"#,
    r#"[{"type":"u","data_base64":"hush-hush-payload"}]"#,
    r#"[{"type":7,"data":"hush-hush-payload"}]"#,
    r#"["hush-hush-payload"]"#,
    r#""hush-hush-payload""#,
    r#"[["entries","42"]]"#,
    r#"{"types":["order.*"]}"#,
    r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","data":"hush-hush-payload"}"#,
    r#"{"specversion":"1.0","id":"1","source":"/a","data":"hush-hush-payload"}"#,
    "line\nbreak",
];

fn cell() -> impl Strategy<Value = Cell> {
    prop_oneof![
        1 => Just(Cell::Null),
        1 => prop_oneof![any::<i64>(), -2..3_i64].prop_map(Cell::Integer),
        1 => any::<f64>().prop_map(Cell::Real),
        2 => select(TEXTS).prop_map(Cell::text),
        1 => any::<String>().prop_map(|text| Cell::text(&text)),
        1 => vec(any::<u8>(), 0..40).prop_map(Cell::Text),
        1 => prop_oneof![vec(any::<u8>(), 16), vec(any::<u8>(), 0..40)].prop_map(Cell::Blob),
        1 => select(TEXTS).prop_map(|text| Cell::Blob(text.into())),
    ]
}

/// Rows that differ from good ones in a few columns: the first mistake hides the others.
fn row<const N: usize>() -> impl Strategy<Value = [Cell; N]> {
    vec((0..N, cell()), 0..4).prop_map(|changes| {
        let mut row = std::array::from_fn(|_| Cell::Good);
        for (column, cell) in changes {
            row[column] = cell;
        }
        row
    })
}

/// The same of entries: with one event and with more, with a key and without.
fn entry() -> impl Strategy<Value = [Cell; COLUMNS]> {
    let further = prop_oneof![
        2 => Just(None),
        1 => (1..4_i64, select(TEXTS)).prop_map(|(count, more)| Some((Cell::Integer(count), Cell::text(more)))),
    ];
    let keyless = prop::bool::weighted(0.2);
    (row::<COLUMNS>(), further, keyless).prop_map(|(mut row, further, keyless)| {
        if let Some((count, more)) = further {
            (row[3], row[12]) = (count, more);
        }
        if keyless {
            (row[0], row[2], row[4]) = (Cell::Null, Cell::Null, Cell::Null);
        }
        row
    })
}

proptest! {
    #[test]
    fn any_row_is_an_entry_or_set_aside_with_a_reason(row in entry()) {
        entry_row(&row);
    }

    #[test]
    fn any_kept_row_is_what_was_kept_or_says_what_to_do(row in row()) {
        kept_row(&row);
    }

    #[test]
    fn any_trouble_is_one_or_says_what_to_do(row in row()) {
        trouble_row(&row);
    }

    #[test]
    fn any_replay_is_one_or_says_what_to_do(row in row()) {
        replay_row(&row);
    }

    #[test]
    fn any_registration_is_one_or_says_what_to_do(row in row()) {
        route_row(&row);
    }

    #[test]
    fn any_bytes_are_a_row(bytes in vec(any::<u8>(), 0..200)) {
        stored_row(&bytes);
        entry_row(&super::cells(&bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_table_of_any_rows_is_read_to_its_end_and_no_row_is_lost(rows in vec(entry(), 1..60), limit in 1..20_usize) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.db");
        let connection = Connection::open(&path).unwrap();
        init(&connection, &InitOptions::new("/orders")).unwrap();
        let names = decode::COLUMNS.trim_start_matches("id, ");
        let values: Vec<_> = (1..=COLUMNS).map(|number| format!("?{number}")).collect();
        let insert = format!("INSERT INTO outbox_entries ({names}) VALUES ({})", values.join(", "));
        connection.execute_batch("BEGIN").unwrap();
        for row in &rows {
            connection.execute(&insert, params_from_iter(row)).unwrap();
        }
        connection.execute_batch("COMMIT").unwrap();
        let store = SqliteStore::open(&path, StoreOptions::default()).unwrap();
        let read = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let (mut after, mut read) = (Position::new("0"), Vec::new());
            loop {
                let limit = Limit { events: limit, bytes: 1 << 20 };
                let page = store.read(&PartitionId::new("entries"), &after, limit).await.unwrap();
                read.extend(page.records.iter().map(|record| record.position.to_string()));
                after = page.next;
                if !page.more {
                    return read;
                }
            }
        });
        let expected: Vec<_> = (1..=rows.len()).map(|id| id.to_string()).collect();
        prop_assert_eq!(read, expected);
    }
}
