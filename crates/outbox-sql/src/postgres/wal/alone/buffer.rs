//! What came of the log and has not been read out yet, in the order of the commits.

use std::{collections::VecDeque, sync::Arc};

use outbox::{
    Record,
    source::{Limit, Page},
};

use super::place::Place;
use crate::postgres::{
    position::Snapshot,
    wal::{
        chain::{KEPT_BYTES, MOST_BYTES, MOST_RECORDS},
        lsn::Lsn,
        rows::InLog,
        xid::whole,
    },
};

struct Buffered {
    place: Place,
    record: Arc<Record>,
    weight: usize,
}

/// The transaction that is coming in.
struct Open {
    commit: Lsn,
    xid: u64,
    rows: u64,
}

/// What was read before is not where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// See the module.
pub(super) struct Buffer {
    /// Where the first record comes next.
    base: Place,
    records: VecDeque<Buffered>,
    /// How many of them nobody is going to ask for but late ones, and their bytes.
    asked: usize,
    asked_bytes: usize,
    bytes: usize,
    /// Everything that was committed before this place has come.
    came: Lsn,
    open: Option<Open>,
    /// A row that was read before and has to come again, to prove that this is the same log.
    expected: Option<Place>,
    /// Where a standby has to confirm commits: what is not seen by this is not given out yet.
    gate: Option<Snapshot>,
    timeline: u32,
    /// A transaction's number that is near to those that come.
    near: u64,
}

impl Buffer {
    /// Begins behind `base`.
    pub(super) fn new(base: Place, timeline: u32, near: u64) -> Self {
        Self {
            base,
            records: VecDeque::new(),
            asked: 0,
            asked_bytes: 0,
            bytes: 0,
            came: Lsn(0),
            open: None,
            expected: (base.number > 0).then_some(base),
            gate: None,
            timeline,
            near,
        }
    }

    /// A transaction begins; `xid` is the lower half of its number.
    ///
    /// # Errors
    /// If one was to come before it.
    pub(super) fn begin(&mut self, commit: Lsn, xid: u32) -> Result<(), Gone> {
        let is_other = |row: Place| commit > row.lsn || commit == row.lsn && u64::from(xid) != row.xid & 0xffff_ffff;
        if self.expected.is_some_and(is_other) {
            return Err(Gone);
        }
        let xid = whole(xid, self.near);
        self.near = self.near.max(xid);
        self.open = Some(Open { commit, xid, rows: 0 });
        Ok(())
    }

    /// Another row of the transaction that is coming in: where it is, unless it was read before.
    pub(super) fn next_row(&mut self) -> Option<InLog> {
        let open = self.open.as_mut()?;
        open.rows += 1;
        let at = InLog { commit: open.commit, xid: open.xid, number: open.rows };
        ((at.commit, at.number) > (self.base_of_stream().lsn, self.base_of_stream().number)).then_some(at)
    }

    /// Behind which rows are wanted: the base, or the last record.
    fn base_of_stream(&self) -> Place {
        self.records.back().map_or(self.base, |last| last.place)
    }

    /// The record of that row.
    pub(super) fn row(&mut self, at: InLog, mut record: Record) {
        let place = Place { lsn: at.commit, number: at.number, xid: at.xid, timeline: self.timeline };
        record.position = place.position();
        let weight = record.weight();
        self.bytes += weight;
        self.records.push_back(Buffered { place, record: Arc::new(record), weight });
    }

    /// The transaction that was coming in has come whole, up to this place of the log.
    ///
    /// # Errors
    /// If it has fewer rows than were read of it before.
    pub(super) fn commit(&mut self, end: Lsn) -> Result<(), Gone> {
        let Some(open) = self.open.take() else { return Ok(()) };
        if let Some(expected) = self.expected.filter(|expected| expected.lsn == open.commit) {
            if open.rows < expected.number {
                return Err(Gone);
            }
            self.expected = None;
        }
        self.come_to(end)
    }

    /// Everything that was committed before `place` has come.
    ///
    /// # Errors
    /// If something was to come that has not.
    pub(super) fn come_to(&mut self, place: Lsn) -> Result<(), Gone> {
        if self.open.is_some() {
            return Ok(());
        }
        if self.expected.is_some_and(|expected| place > expected.lsn) {
            return Err(Gone);
        }
        self.came = self.came.max(place);
        Ok(())
    }

    /// Up to where everything has come.
    pub(super) fn came(&self) -> Lsn {
        self.came
    }

    /// Whether it is not known yet that this is the log that was read before.
    pub(super) fn is_to_prove(&self) -> bool {
        self.expected.is_some()
    }

    /// What was read last is not waited for: it is known to be lost.
    pub(super) fn expect_nothing(&mut self) {
        self.expected = None;
    }

    /// Gives out only what this sees; all if there is none.
    pub(super) fn gate(&mut self, gate: Option<Snapshot>) {
        self.gate = gate;
    }

    /// Whether so much waits to be read that nothing more is to come.
    pub(super) fn is_full(&self) -> bool {
        self.bytes - self.asked_bytes >= MOST_BYTES || self.records.len() - self.asked >= MOST_RECORDS
    }

    /// Where it begins.
    pub(super) fn base(&self) -> Place {
        self.base
    }

    /// The index of the record that comes behind `after`, if that is known here.
    pub(super) fn find(&self, after: Place) -> Option<usize> {
        if after == self.base {
            return Some(0);
        }
        let index = self.records.partition_point(|one| one.place <= after);
        let is_last = |place: Place| place.lsn == after.lsn && place.number == after.number && place.xid == after.xid;
        let before = index.checked_sub(1).map_or(self.base, |before| self.records[before].place);
        let is_between = after.number == 0 && after > self.base && after.lsn <= self.came;
        (is_last(before) || is_between).then_some(index)
    }

    /// What comes behind the record with this index. What comes before the furthest place that was asked for may be let go
    /// of.
    pub(super) fn page(&mut self, index: usize, limit: Limit) -> Option<Page> {
        let (mut events, mut bytes) = (0_usize, 0_usize);
        let mut records: Vec<Arc<Record>> = Vec::new();
        for one in self.records.range(index..) {
            events = events.saturating_add(one.record.len());
            bytes = bytes.saturating_add(one.weight);
            let is_over = !records.is_empty() && (events > limit.events || bytes > limit.bytes);
            if is_over || self.gate.as_ref().is_some_and(|gate| !gate.sees(one.place.xid)) {
                break;
            }
            records.push(one.record.clone());
        }
        if index > self.asked {
            self.asked_bytes += self.records.range(self.asked..index).map(|one| one.weight).sum::<usize>();
            self.asked = index;
            self.let_go();
        }
        let next = records.last()?.position.clone();
        Some(Page { records, next, more: true, end: false })
    }

    /// How many records come behind the one with this index, and the first of them.
    pub(super) fn behind(&self, index: usize) -> (usize, Option<&Record>) {
        (self.records.len() - index, self.records.get(index).map(|one| &*one.record))
    }

    /// Whether nothing comes behind the record with this index, and nothing is coming in.
    pub(super) fn is_end(&self, index: usize) -> bool {
        index == self.records.len() && self.open.is_none()
    }

    /// Lets go of what was read, but for the last of it.
    fn let_go(&mut self) {
        while self.asked_bytes > KEPT_BYTES || self.asked > MOST_RECORDS {
            let Some(first) = self.records.pop_front() else { return };
            self.asked -= 1;
            self.asked_bytes -= first.weight;
            self.bytes -= first.weight;
            self.base = first.place;
        }
    }
}

#[cfg(test)]
mod tests;
