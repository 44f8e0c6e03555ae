//! For the tests of a service: which events did a piece of code write?
//!
//! ```
//! use outbox::NewEvent;
//! use outbox_sql::sqlite::{self, InitOptions, assertion::{Since, assert_written}};
//!
//! # let directory = tempfile::tempdir()?;
//! # let mut connection = rusqlite::Connection::open(directory.path().join("orders.db"))?;
//! # sqlite::init(&connection, &InitOptions::new("/orders"))?;
//! fn place_order(transaction: &rusqlite::Transaction<'_>) -> Result<(), outbox::WriteError> {
//!     // … the order's own rows, and
//!     let placed = NewEvent::builder("order.placed").key("customer/42").json(&serde_json::json!({ "units": 3 }));
//!     sqlite::write(transaction, [placed.build().unwrap()]).map(|_| ())
//! }
//!
//! let before = Since::now(&connection)?;
//! let transaction = connection.transaction()?;
//! place_order(&transaction)?;
//! let placed = NewEvent::builder("order.placed").key("customer/42").json(&serde_json::json!({ "units": 3 })).build()?;
//! assert_written(&transaction, before, &[placed]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{collections::BTreeMap, fmt::Write};

use outbox::{Content, Event, Key, NewEvent, StoreError, event::Identity};
use rusqlite::Connection;

use super::{
    decode::{COLUMNS, Decoder},
    failure::store_error,
    schema,
};

/// A moment in a database's history of entries.
#[derive(Clone, Copy, Debug)]
pub struct Since(i64);

impl Since {
    /// Now: what is written from here on comes after it.
    ///
    /// # Errors
    /// As SQLite says; among others, if the tables are missing.
    pub fn now(connection: &Connection) -> Result<Self, StoreError> {
        connection
            .query_row("SELECT coalesce(max(id), 0) FROM outbox_entries", [], |row| row.get(0))
            .map(Self)
            .map_err(store_error("reading the latest entry"))
    }

    /// The events written since: in an open transaction of `connection`, or committed by anybody. As a relay would
    /// publish them, in the order of their entries. A row that cannot be read as an entry gives its reason instead.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn events(self, connection: &Connection) -> Result<Vec<Result<Event, String>>, StoreError> {
        let failed = || store_error("reading what was written");
        let mut decoder = Decoder::new(&schema::check(connection)?.producer);
        let sql = format!("SELECT {COLUMNS} FROM outbox_entries WHERE id > ?1 ORDER BY id");
        let mut statement = connection.prepare(&sql).map_err(failed())?;
        let mut rows = statement.query([self.0]).map_err(failed())?;
        let mut events = Vec::new();
        while let Some(row) = rows.next().map_err(failed())? {
            let (_, record) = decoder.record(row).map_err(failed())?;
            match record.content {
                Content::Events(written) => events.extend(written.into_iter().map(Ok)),
                Content::Undecodable(row) => events.push(Err(row.reason)),
            }
        }
        Ok(events)
    }
}

/// Asserts that exactly `expected` was written since: for each key these events in this order, and these events without
/// a key in any order. Compared are type, key, payload (JSON by its value), media type, subject, schema, extensions;
/// id and time only where `expected` gives one.
///
/// # Panics
/// If other events were written: the message shows for each key what was expected (`-`) and what was written (`+`),
/// payloads included. Also if the database cannot be read.
#[track_caller]
#[expect(clippy::panic, reason = "it is an assertion")]
pub fn assert_written(connection: &Connection, since: Since, expected: &[NewEvent]) {
    let written = match since.events(connection) {
        Ok(written) => written,
        Err(error) => panic!("what was written could not be read: {error}"),
    };
    if let Some(difference) = difference(expected, &written) {
        panic!("other events were written than expected (-expected +written):\n{difference}");
    }
}

/// Expected and written events of one key, or of none.
#[derive(Default)]
struct Group<'a> {
    expected: Vec<&'a NewEvent>,
    written: Vec<&'a Event>,
}

fn difference(expected: &[NewEvent], written: &[Result<Event, String>]) -> Option<String> {
    let mut groups = BTreeMap::<Option<&Key>, Group<'_>>::new();
    let mut text = String::new();
    for event in expected {
        groups.entry(event.key()).or_default().expected.push(event);
    }
    for event in written {
        match event {
            Ok(event) => groups.entry(event.key()).or_default().written.push(event),
            Err(reason) => {
                let _ = writeln!(text, "  + not readable: {reason}");
            }
        }
    }
    for (key, group) in groups {
        let pairs = if key.is_some() { in_order(&group) } else { in_any_order(&group) };
        if pairs.iter().any(|pair| !matches!(pair, (Some(_), Some(_)))) {
            let _ = match key {
                Some(key) => writeln!(text, "key `{key}`:"),
                None => writeln!(text, "without a key:"),
            };
            for pair in pairs {
                render(&mut text, pair);
            }
        }
    }
    (!text.is_empty()).then_some(text)
}

/// An expected event and the written one that is equal to it, or only one of the two.
type Pair<'a> = (Option<&'a NewEvent>, Option<&'a Event>);

/// Pairs by a longest common subsequence, so that one missing event does not make all behind it differ.
fn in_order<'a>(group: &Group<'a>) -> Vec<Pair<'a>> {
    let (expected, written) = (&group.expected, &group.written);
    let width = written.len() + 1;
    let mut longest = vec![0_usize; (expected.len() + 1) * width];
    for (i, wanted) in expected.iter().enumerate().rev() {
        for (j, event) in written.iter().enumerate().rev() {
            longest[i * width + j] = if equal(wanted, event) {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < expected.len() || j < written.len() {
        let (wanted, event) = (expected.get(i).copied(), written.get(j).copied());
        match (wanted, event) {
            (Some(wanted), Some(event)) if equal(wanted, event) => {
                pairs.push((Some(wanted), Some(event)));
                (i, j) = (i + 1, j + 1);
            }
            (Some(_), None) => {
                pairs.push((wanted, None));
                i += 1;
            }
            (Some(_), Some(_)) if longest[(i + 1) * width + j] >= longest[i * width + j + 1] => {
                pairs.push((wanted, None));
                i += 1;
            }
            (_, _) => {
                pairs.push((None, event));
                j += 1;
            }
        }
    }
    pairs
}

fn in_any_order<'a>(group: &Group<'a>) -> Vec<Pair<'a>> {
    let mut left = group.written.clone();
    let mut pairs = Vec::new();
    for wanted in &group.expected {
        let found = left.iter().position(|event| equal(wanted, event)).map(|index| left.remove(index));
        pairs.push((Some(*wanted), found));
    }
    pairs.extend(left.into_iter().map(|event| (None, Some(event))));
    pairs
}

fn equal(wanted: &NewEvent, event: &Event) -> bool {
    wanted.kind() == event.kind()
        && same_payload(wanted, event)
        && wanted.content_type() == event.content_type()
        && wanted.subject() == event.subject()
        && wanted.schema() == event.schema()
        && wanted.extensions().eq(event.extensions())
        && wanted.id().is_none_or(|id| id == event.id())
        && wanted.time().is_none_or(|time| Some(time) == event.time())
}

fn same_payload(wanted: &NewEvent, event: &Event) -> bool {
    let json = |data: &bytes::Bytes| serde_json::from_slice::<serde_json::Value>(data).ok();
    match (wanted.data(), event.data()) {
        (None, None) => true,
        (Some(wanted), Some(written)) => {
            wanted == written || json(wanted).is_some_and(|wanted| Some(wanted) == json(written))
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn render(text: &mut String, pair: Pair<'_>) {
    let _ = match pair {
        (Some(wanted), Some(_)) => writeln!(text, "    {}", wanted_line(wanted)),
        (Some(wanted), None) => writeln!(text, "  - {}", wanted_line(wanted)),
        (None, Some(event)) => writeln!(text, "  + {}", line(event, true)),
        (None, None) => Ok(()),
    };
}

/// A new event on one line, as the event that it would become.
fn wanted_line(wanted: &NewEvent) -> String {
    let identity = Identity { source: &"/".into(), placing: None, recorded: None, fallback_id: "-" };
    let given = wanted.id().is_some();
    Event::from_new(wanted.clone(), identity).map_or_else(|error| error.to_string(), |event| line(&event, given))
}

fn line(event: &Event, with_id: bool) -> String {
    let mut line = format!("{} {}", event.kind(), payload(event));
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(line, " {name}={value}");
        }
    };
    put("id", with_id.then(|| event.id().to_owned()));
    put("datacontenttype", event.content_type().map(str::to_owned));
    put("subject", event.subject().map(str::to_owned));
    put("dataschema", event.schema().map(str::to_owned));
    put("time", event.time().map(|time| time.to_string()));
    for (name, value) in event.extensions() {
        put(name, Some(value.to_string()));
    }
    line
}

/// The payload as far as a line takes it.
fn payload(event: &Event) -> String {
    const LONGEST: usize = 200;
    let Some(data) = event.data() else { return "(no payload)".to_owned() };
    match std::str::from_utf8(data) {
        Ok(text) if text.chars().count() <= LONGEST => text.to_owned(),
        Ok(text) => format!("{}… ({} bytes)", text.chars().take(LONGEST).collect::<String>(), data.len()),
        Err(_) => format!("({} bytes that are not text)", data.len()),
    }
}
