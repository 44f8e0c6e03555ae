//! Where a relay stands in the entries, whichever way they are read.
//!
//! A snapshot is the cursor: what it sees was read. Polling goes from one snapshot to the next through a range, by the ids
//! of its rows; the write-ahead log goes from commit to commit. Both ways rest at the same kind of place, so that one can go
//! on where the other stopped.
//!
//! As text a position is, in this order:
//!
//! ```text
//! 42.1234@1201-1.3>1240/1/16B3748
//! │  │    │         │    │ └─ what counts here was written before this place in the log,
//! │  │    │         │    └─ of this timeline
//! │  │    │         └─ in a range: of what this snapshot sees, rows up to that one were read, by id
//! │  │    └─ all that this snapshot sees was read: transactions below 1201 but 1200 and 1197
//! │  └─ of this transaction, 0 if no row is meant but its id
//! └─ the row read last, by its id; missing if there is none
//! ```
//!
//! Of more than two transactions in a row that were not read, `*` says how many they are: `1201-1*500`. Behind a range may stand, with `+`, where the next one has to end: `>1240+1250`. Of the log, `>…` is `~`, with how many rows
//! of a transaction were read that is not done: `42.1234@1201~3/1/16B3748`. What stands before the `@` names the row, however
//! it was read.

use std::{cmp::Ordering, fmt::Write};

use outbox::{ErrorKind, Position, StoreError};

use crate::decode::shown;

mod relations;
mod snapshot;
#[cfg(test)]
mod tests;

pub(crate) use snapshot::{Snapshot, fitted};

/// A text that is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A row of the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Row {
    /// Its id.
    pub(crate) id: i64,
    /// The transaction that wrote it; 0 if no row needs to be there, and only the id counts.
    pub(crate) xid: u64,
}

/// A place in the write-ahead log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LogPlace {
    /// Which of the histories of the log; 0 if none is known.
    pub(crate) timeline: u32,
    /// The log sequence number.
    pub(crate) lsn: u64,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// All that it sees was read.
    pub(crate) passed: Snapshot,
    /// What was read besides.
    pub(crate) reading: Reading,
    /// Everything that counts here was written before this place in the log: where history went on from an earlier one, it is
    /// another.
    pub(crate) log: LogPlace,
}

/// What was read besides what a snapshot sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Nothing: between two ranges.
    Rest,
    /// Of what `to` sees, all rows up to `last`, by id.
    Range {
        /// Where the range ends.
        to: Snapshot,
        /// The row read last, or an id; none yet.
        last: Option<Row>,
        /// Where the next range has to end; `None` for as far as can be seen then.
        then: Option<Snapshot>,
    },
    /// Commits of the log, up to and with that at [`Standing::log`].
    Log {
        /// A transaction that has not been read whole: its last row, and how many rows were read. The log's place is that of
        /// its commit.
        inside: Option<(Row, u64)>,
    },
}

impl Standing {
    /// Before everything.
    pub(crate) const BEGINNING: Self = Self::at_rest(Snapshot::EMPTY, LogPlace { timeline: 0, lsn: 0 });

    /// Between two ranges.
    pub(crate) const fn at_rest(passed: Snapshot, log: LogPlace) -> Self {
        Self { passed, reading: Reading::Rest, log }
    }

    /// The row read last, or an id; `None` at rest.
    pub(crate) fn last(&self) -> Option<Row> {
        match &self.reading {
            Reading::Rest => None,
            Reading::Range { last, .. } => *last,
            Reading::Log { inside } => inside.map(|(row, _)| row),
        }
    }

    /// Whether `row` was read.
    pub(crate) fn is_past(&self, row: Row) -> bool {
        self.passed.sees(row.xid)
            || match &self.reading {
                Reading::Rest => false,
                Reading::Range { to, last, .. } => to.sees(row.xid) && last.is_some_and(|last| row.id <= last.id),
                Reading::Log { inside } => inside.is_some_and(|(last, _)| last.xid == row.xid && row.id <= last.id),
            }
    }

    /// The position as it is stored.
    pub(crate) fn position(&self) -> Position {
        Position::new(self.last().map_or_else(String::new, named) + &self.behind_name())
    }

    /// The positions behind rows of the range that this stands in: the same but for the row. Cheap for each.
    pub(crate) fn in_range(&self) -> InRange {
        InRange(self.behind_name())
    }

    /// From the `@` on.
    fn behind_name(&self) -> String {
        let mut text = String::from("@");
        self.passed.write(&mut text);
        match &self.reading {
            Reading::Rest => {}
            Reading::Range { to, then, .. } => {
                text.push('>');
                to.write(&mut text);
                if let Some(then) = then {
                    text.push('+');
                    then.write(&mut text);
                }
            }
            Reading::Log { inside } => {
                text.push('~');
                text.push_str(itoa::Buffer::new().format(inside.map_or(0, |(_, rows)| rows)));
            }
        }
        // Writing to a string does not fail.
        let _ = write!(text, "/{}/{:X}", self.log.timeline, self.log.lsn);
        text
    }

    /// Reads a stored position.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is none.
    pub(crate) fn parse(position: &Position) -> Result<Self, StoreError> {
        parse(position.as_str()).map_err(|Malformed| {
            let message = format!(
                "`{}` is not a position of a PostgreSQL database: name the bookkeeping that belongs to it",
                shown(position.as_str(), 40)
            );
            StoreError::new(ErrorKind::Invalid, message)
        })
    }
}

/// See [`Standing::in_range`].
pub(crate) struct InRange(String);

impl InRange {
    /// The position behind `row`.
    pub(crate) fn behind(&self, row: Row) -> Position {
        let mut text = String::with_capacity(40 + self.0.len());
        let mut digits = itoa::Buffer::new();
        text.push_str(digits.format(row.id));
        text.push('.');
        text.push_str(digits.format(row.xid));
        text.push_str(&self.0);
        Position::new(text)
    }
}

/// What stands before the `@`.
fn named(row: Row) -> String {
    format!("{}.{}", row.id, row.xid)
}

/// The row that a position names, whatever stands behind it.
pub(crate) fn row_of(position: &Position) -> Option<Row> {
    let text = position.as_str();
    row(text.split_once('@').map_or(text, |(name, _)| name)).ok()
}

/// Which of two positions of one history comes first: a range behind all that ends with an earlier snapshot, and in it by
/// id. What is none comes first. A row's name alone stands before every position that is past it, and behind every other.
pub(crate) fn order(left: &Position, right: &Position) -> Ordering {
    match (parse(left.as_str()), parse(right.as_str())) {
        (Ok(left), Ok(right)) => left.order(&right),
        (Err(_), Err(_)) => row_of(left).cmp(&row_of(right)),
        (Err(_), Ok(standing)) => compare_row(left, &standing),
        (Ok(standing), Err(_)) => compare_row(right, &standing).reverse(),
    }
}

fn compare_row(name: &Position, standing: &Standing) -> Ordering {
    match row_of(name) {
        Some(row) if !standing.is_past(row) => Ordering::Greater,
        Some(_) | None => Ordering::Less,
    }
}

fn row(text: &str) -> Result<Row, Malformed> {
    let (id, xid) = text.split_once('.').ok_or(Malformed)?;
    // A foreign table may count from below zero.
    snapshot::number(id.strip_prefix('-').unwrap_or(id))?;
    Ok(Row { id: id.parse().map_err(|_| Malformed)?, xid: snapshot::number(xid)? })
}

fn parse(text: &str) -> Result<Standing, Malformed> {
    let (name, behind) = text.split_once('@').ok_or(Malformed)?;
    let last = if name.is_empty() { None } else { Some(row(name)?) };
    let mut parts = behind.split('/');
    let (Some(read), Some(timeline), Some(lsn), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Malformed);
    };
    let hexadecimal = lsn.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte));
    let lsn = u64::from_str_radix(lsn, 16).ok().filter(|_| hexadecimal).ok_or(Malformed)?;
    let timeline = u32::try_from(snapshot::number(timeline)?).map_err(|_| Malformed)?;
    let (passed, reading) = if let Some((passed, range)) = read.split_once('>') {
        let (to, then) = range.split_once('+').map_or((range, None), |(to, then)| (to, Some(then)));
        (passed, Reading::Range { to: Snapshot::read(to)?, last, then: then.map(Snapshot::read).transpose()? })
    } else if let Some((passed, rows)) = read.split_once('~') {
        (passed, Reading::Log { inside: last.zip(Some(snapshot::number(rows)?)) })
    } else if last.is_none() {
        (read, Reading::Rest)
    } else {
        return Err(Malformed);
    };
    Ok(Standing { passed: Snapshot::read(passed)?, reading, log: LogPlace { timeline, lsn } })
}
