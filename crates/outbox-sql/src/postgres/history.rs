//! Whether a database still holds the history that was read before.
//!
//! A restored copy has the same tables, the same ids and transaction numbers and, soon, other entries under them; a snapshot
//! cannot see that. Only commit ids tell. So what was handed out last is remembered, and looked up again with every read;
//! and all that is remembered once the server was started anew or another one took its place. The log tells what no row
//! does: that a standby was promoted before it had all that was read.

use std::collections::VecDeque;

use outbox::{CommitId, ErrorKind, StoreError};

use super::position::{LogPlace, Row};

/// Rows remembered besides the highest.
const RECENT: usize = 256;

/// What was read before, in memory.
#[derive(Default)]
pub(super) struct History {
    highest: Option<Seen>,
    recent: VecDeque<Seen>,
    /// In which life of the server that was.
    life: Option<Life>,
}

/// A row that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) row: Row,
    pub(super) commit: CommitId,
}

/// From a server's start, or its recovery from a crash, to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// When the server was started, as it prints it.
    pub(super) started: String,
    /// Which history of the log it writes.
    pub(super) timeline: u32,
    /// Up to where it recovered the log before; `None` if it did not have to.
    pub(super) recovered: Option<u64>,
    /// Up to where the log has been written since.
    pub(super) written: u64,
}

impl History {
    /// Remembers a row that was handed out, or that a witness names.
    pub(super) fn remember(&mut self, seen: Seen) {
        if self.highest.is_none_or(|highest| highest.row.id < seen.row.id) {
            self.highest = Some(seen);
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(seen);
    }

    /// The row of the highest id that was read.
    pub(super) fn highest(&self) -> Option<Seen> {
        self.highest
    }

    /// The highest row that `is_wanted` and that is remembered.
    pub(super) fn highest_of(&self, is_wanted: impl Fn(Row) -> bool) -> Option<Seen> {
        let all = self.recent.iter().chain(&self.highest).copied();
        all.filter(|seen| is_wanted(seen.row)).max_by_key(|seen| seen.row.id)
    }

    /// The commit that was seen in a row, if it is remembered.
    pub(super) fn commit_of(&self, row: Row) -> Option<CommitId> {
        self.recent.iter().rev().find(|seen| seen.row == row).map(|seen| seen.commit)
    }

    /// All that is remembered, if the server lives another life than when it was looked at last.
    pub(super) fn to_check_in(&self, life: &Life) -> Vec<Seen> {
        let is_same = self.life.as_ref().is_none_or(|known| {
            (&known.started, known.timeline, known.recovered) == (&life.started, life.timeline, life.recovered)
        });
        if is_same { Vec::new() } else { self.recent.iter().chain(&self.highest).copied().collect() }
    }

    /// All that is remembered was found in this life.
    pub(super) fn found_in(&mut self, life: Life) {
        self.life = Some(life);
    }

    /// What is remembered of these is not to be looked for: retention removed it.
    pub(super) fn forget(&mut self, purged: &[Seen]) {
        self.recent.retain(|seen| !purged.contains(seen));
        self.highest = self.highest.filter(|seen| !purged.contains(seen));
        self.highest = self.highest.or_else(|| self.recent.iter().copied().max_by_key(|seen| seen.row.id));
    }
}

impl Life {
    /// Whether what was written before `log` is part of this history, as far as the server can tell.
    ///
    /// # Errors
    /// [`ErrorKind::HistoryChanged`] if it is not.
    pub(super) fn check(&self, log: LogPlace, database: &str) -> Result<(), StoreError> {
        let went_back = || {
            let found = format!(
                "has written its log up to {} of timeline {}, but what was read before reaches {} of timeline {}: it is an older copy",
                lsn(self.written),
                self.timeline,
                lsn(log.lsn),
                log.timeline
            );
            changed(database, &found)
        };
        if log.timeline == 0 {
            return Ok(());
        }
        if self.timeline < log.timeline || self.timeline == log.timeline && self.written < log.lsn {
            return Err(went_back());
        }
        // A standby that was promoted goes on from where it had got to.
        if self.timeline > log.timeline && self.recovered.is_some_and(|recovered| recovered < log.lsn) {
            let found = format!(
                "goes on from {} of its log since a standby took over, but what was read before reaches {}: the standby had not got all of it",
                lsn(self.recovered.unwrap_or(0)),
                lsn(log.lsn)
            );
            return Err(changed(database, &found));
        }
        Ok(())
    }
}

/// As PostgreSQL prints it.
pub(super) fn lsn(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
}

/// A row that was read before is not there, or is another.
pub(super) fn missing_row(database: &str, row: Row) -> StoreError {
    let found = format!(
        "does not hold entry {}, which was read before, or holds another in its place: it is an older copy, or its entries were deleted by hand",
        row.id
    );
    changed(database, &found)
}

/// History went backwards: what was found, and what to do.
pub(super) fn changed(database: &str, found: &str) -> StoreError {
    let message = format!("the database {database} {found}. Stop its writers and run `outbox adopt` before they start");
    StoreError::new(ErrorKind::HistoryChanged, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(timeline: u32, recovered: Option<u64>) -> Life {
        Life { started: "2026-11-21".to_owned(), timeline, recovered, written: 1000 }
    }

    #[test]
    fn a_promotion_that_lost_nothing_goes_on_and_any_other_does_not() {
        let read = |timeline, lsn| LogPlace { timeline, lsn };
        let goes_on = |life: &Life, log| life.check(log, "db").is_ok();
        assert!(goes_on(&life(1, None), read(1, 1000)) && goes_on(&life(1, Some(10)), read(1, 900)));
        assert!(goes_on(&life(2, Some(900)), read(1, 900)), "it had all that was read");
        assert!(goes_on(&life(2, None), read(1, 900)), "it was started since, and cannot tell any more");
        assert!(!goes_on(&life(2, Some(899)), read(1, 900)));
        assert!(!goes_on(&life(1, None), read(1, 1001)), "the log went back");
        assert!(!goes_on(&life(1, None), read(2, 1)), "an older timeline");
        assert!(goes_on(&life(1, None), read(0, 5000)), "nothing is known");
    }

    #[test]
    fn what_is_remembered_is_looked_for_again_in_another_life() {
        let mut history = History::default();
        let seen = |id| Seen { row: Row { id, xid: 5 }, commit: CommitId([1; 16]) };
        history.remember(seen(7));
        history.remember(seen(3));
        history.found_in(life(1, None));
        assert_eq!(history.to_check_in(&Life { written: 2000, ..life(1, None) }), []);
        assert_eq!(history.to_check_in(&life(1, Some(800))), [seen(7), seen(3), seen(7)]);
        history.forget(&[seen(7)]);
        assert_eq!(history.highest(), Some(seen(3)));
    }

    #[test]
    fn numbers_of_the_log_look_as_usual() {
        assert_eq!(lsn(0x1_016B_3748), "1/16B3748");
    }
}
