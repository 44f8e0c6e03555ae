//! From events to SQL and its parameters: a pure function, for whoever brings a database driver of their own.
//!
//! [`outbox::writer::plan`] sorts the events of one call into entries; [`entry`] makes of each one statement that the
//! caller executes in the transaction of its business data. The statement writes to the view `outbox`, which checks,
//! numbers and stores; `docs/table-layout.md` has its rules. After a lost commit answer, [`settle`] asks what became of
//! it.
//!
//! ```
//! use outbox::{CommitId, Entropy, Expected, NewEvent, System, writer::plan};
//! use outbox_sql::sqlite::statement;
//!
//! let event = NewEvent::builder("order.placed").key("customer/42").json(&serde_json::json!({ "units": 3 })).build()?;
//! let commit = CommitId(System.sixteen());
//! let now = "2026-11-21T09:30:00Z".parse()?;
//! for entry in plan([event])? {
//!     let statement = statement::entry(&entry, Expected::Any, commit, now, &System)?;
//!     assert!(statement.sql.starts_with("INSERT INTO outbox "));
//!     // execute(statement.sql, statement.parameters)
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use jiff::Timestamp;
use outbox::{
    CommitId, Entropy, Expected, Receipt, WriteError,
    writer::{EntryPlan, Settled},
};

use super::row::{self, Data};

/// One SQL statement and what its numbered parameters `?1`, `?2` … are.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// The text; the same for every entry, so that it can be prepared once.
    pub sql: &'static str,
    /// The parameters, in order.
    pub parameters: Vec<Parameter>,
}

/// A value as SQLite stores it. `Debug` shows no payload.
#[derive(Clone, PartialEq)]
pub enum Parameter {
    /// NULL.
    Null,
    /// An INTEGER.
    Integer(i64),
    /// TEXT.
    Text(String),
    /// A BLOB.
    Blob(Vec<u8>),
}

impl std::fmt::Debug for Parameter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Integer(number) => write!(f, "INTEGER {number}"),
            Self::Text(text) => write!(f, "TEXT of {} bytes", text.len()),
            Self::Blob(bytes) => write!(f, "BLOB of {} bytes", bytes.len()),
        }
    }
}

impl Parameter {
    fn text(text: Option<impl Into<String>>) -> Self {
        text.map_or(Self::Null, |text| Self::Text(text.into()))
    }
}

const ENTRY: &str = "INSERT INTO outbox \
     (key, type, data, content_type, event_id, attributes, more, expected, commit_id, recorded_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

/// The statement that writes the entry `plan`, as part of the commit `commit`, recorded at `now`.
///
/// Executed, it is refused with a message that begins with `outbox: conflict` if the key is not at the `expected`
/// sequence, `outbox: too large` if a payload is larger than the routes take, and `outbox:` for whatever else.
///
/// # Errors
/// [`WriteError::EntryTooLarge`], [`WriteError::Attribute`].
pub fn entry(
    plan: &EntryPlan,
    expected: Expected,
    commit: CommitId,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<Statement, WriteError> {
    let row = row::encode(plan, now, entropy)?;
    let data = match row.data {
        Data::None => Parameter::Null,
        Data::Text(text) => Parameter::Text(text.to_owned()),
        Data::Blob(bytes) => Parameter::Blob(bytes.to_vec()),
    };
    let expected = match expected {
        Expected::Any => Parameter::Null,
        // No key gets so far: such a version is as good as any that is not current.
        Expected::Sequence(sequence) => Parameter::Integer(i64::try_from(sequence).unwrap_or(i64::MAX)),
    };
    let parameters = vec![
        Parameter::text(row.key),
        Parameter::Text(row.kind.to_owned()),
        data,
        Parameter::text(row.content_type),
        Parameter::text(row.event_id),
        Parameter::text(row.attributes),
        Parameter::text(row.more),
        expected,
        Parameter::Blob(commit.0.to_vec()),
        Parameter::Integer(now.as_millisecond()),
    ];
    Ok(Statement { sql: ENTRY, parameters })
}

const SETTLE_KEY: &str = "\
WITH RECURSIVE chain (sequence, commit_id, previous_id) AS (
    SELECT entry.sequence, entry.commit_id, entry.previous_id
    FROM outbox_heads AS head JOIN outbox_entries AS entry ON entry.id = head.entry_id
    WHERE head.key = ?1
    UNION ALL
    SELECT entry.sequence, entry.commit_id, entry.previous_id
    FROM chain JOIN outbox_entries AS entry ON entry.id = chain.previous_id
    WHERE chain.sequence > ?2
)
SELECT (SELECT sequence FROM outbox_heads WHERE key = ?1), (SELECT commit_id FROM chain WHERE sequence = ?2)";

const SETTLE_KEYLESS: &str = "\
SELECT NULL, (
    SELECT commit_id FROM (SELECT commit_id FROM outbox_entries ORDER BY id DESC LIMIT 10000)
    WHERE commit_id = ?1 LIMIT 1
)";

/// The statement that asks what became of the commit of `receipt`. It gives one row of two columns, which [`settled`]
/// judges. Execute it outside the transaction that wrote, once that has ended.
///
/// A key's entry is found however many came after it; an event without a key only among the newest 10,000 entries.
pub fn settle(receipt: &Receipt) -> Statement {
    match (&receipt.key, receipt.first) {
        (Some(key), Some(first)) => Statement {
            sql: SETTLE_KEY,
            parameters: vec![Parameter::Text(key.to_string()), Parameter::Integer(integer(first.sequence))],
        },
        (None, _) | (_, None) => {
            Statement { sql: SETTLE_KEYLESS, parameters: vec![Parameter::Blob(receipt.commit.0.to_vec())] }
        }
    }
}

/// What the row says that [`settle`]'s statement gave: the key's latest sequence, and the commit id of the entry that
/// has the receipt's number.
pub fn settled(receipt: &Receipt, latest: Option<i64>, commit: Option<&[u8]>) -> Settled {
    match (commit, receipt.first) {
        (Some(commit), _) if *commit == receipt.commit.0 => Settled::Committed,
        (Some(_), _) => Settled::NotCommitted,
        (None, Some(first)) if latest.unwrap_or(0) < integer(first.sequence) => Settled::NotCommitted,
        (None, _) => Settled::Unknown,
    }
}

fn integer(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}
