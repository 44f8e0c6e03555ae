//! What came of the log and has not been read out yet, row by row, each with the position behind it.
//!
//! A position says which transactions were read, not how far in the log: so whoever stands at it can go on in the table as
//! well as here. Where the chain begins is known as such a position too. Who asks behind a position that is no place of this
//! chain is [led to one](Chain::find) through the table, or, if all that the chain holds before that position was read there,
//! has the chain begin anew at it. Numbers of transactions say nothing of another server's history, so such a position is taken
//! for one of this history only once it is [known](Chain::know) to be.

use std::{collections::VecDeque, sync::Arc};

use outbox::{
    Position, Record, StoreError,
    source::{Limit, Page},
};

use super::{lsn::Lsn, xid::whole};
use crate::postgres::position::{LogPlace, Reading, Row, Snapshot, Standing};

mod anew;
mod transaction;

use transaction::Transaction;

/// How much is kept for who reads a little later: the next page of another route.
pub(super) const KEPT_BYTES: usize = 1 << 20;
/// How much may wait to be read before the server has to.
pub(super) const MOST_BYTES: usize = 4 << 20;
/// The same in records, which have a size of their own.
pub(super) const MOST_RECORDS: usize = 8_192;
/// Added to the number of a row whose id is not above those of its transaction before it: then ids do not tell which rows
/// were read, and whoever counts them in the table finds another number.
pub(in crate::postgres) const UNORDERED: u64 = 1 << 40;
/// Positions that are known, besides the places of the chain: more than there are routes.
const MOST_KNOWN: usize = 64;

struct Buffered {
    record: Arc<Record>,
    weight: usize,
    row: Row,
    /// Which of its transaction's rows it is, from 1.
    number: u64,
    transaction: Arc<Transaction>,
}

/// The transaction that is coming in.
struct Open {
    transaction: Arc<Transaction>,
    rows: u64,
    highest: i64,
    is_ordered: bool,
    /// It was read elsewhere.
    skipped: bool,
}

/// See the module.
pub(super) struct Chain {
    /// Where the first record comes next.
    base: Position,
    records: VecDeque<Buffered>,
    /// How many of them nobody is going to ask for but late ones, and their bytes.
    asked: usize,
    asked_bytes: usize,
    bytes: usize,
    /// The transactions that came whole, and those before the chain.
    passed: Snapshot,
    log: LogPlace,
    open: Option<Open>,
    /// A name of the place behind the last record, until there is another one.
    end_name: Option<Position>,
    /// Where a standby has to confirm commits: what is not seen by this is not given out yet.
    gate: Option<Snapshot>,
    /// A transaction's number that is near to those that come.
    near: u64,
    /// Positions of this history that were come by elsewhere, the latest last.
    known: VecDeque<Position>,
}

/// What the chain has for a position.
#[derive(Debug)]
pub(super) enum Found {
    /// Whether it is one of this history is not known.
    Unknown,
    /// What comes next.
    Page(Page),
    /// It is the place behind all that came, or that may be given out; by what name to ask there.
    End(Position),
    /// It is read in the table, up to this, which leads to a place of the chain.
    Elsewhere(Target),
}

/// Where reading in the table is to lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) to: Snapshot,
    pub(super) log: LogPlace,
}

impl Chain {
    /// Begins behind what `passed` sees; `near` is near to the numbers of the transactions that come.
    pub(super) fn new(passed: Snapshot, log: LogPlace, near: u64) -> Self {
        let base = resting(&passed, log);
        Self {
            base,
            records: VecDeque::new(),
            asked: 0,
            asked_bytes: 0,
            bytes: 0,
            passed,
            log,
            open: None,
            end_name: None,
            gate: None,
            near,
            known: VecDeque::new(),
        }
    }

    /// A transaction begins; `xid` is the lower half of its number.
    pub(super) fn begin(&mut self, commit: Lsn, xid: u32) {
        let xid = whole(xid, self.near);
        self.near = self.near.max(xid);
        let log = LogPlace { lsn: self.log.lsn.max(commit.0), ..self.log };
        let skipped = self.passed.sees(xid);
        let transaction = Arc::new(Transaction::new(self.passed.clone(), xid, log));
        self.open = Some(Open { transaction, rows: 0, highest: i64::MIN, is_ordered: true, skipped });
    }

    /// Whether rows of the transaction that is coming in are wanted.
    pub(super) fn wants_rows(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !open.skipped)
    }

    /// A row of the transaction that is coming in, with this id; the record's position is set here. Tells whether it was
    /// wanted.
    pub(super) fn row(&mut self, id: i64, mut record: Record) -> bool {
        let Some(open) = self.open.as_mut().filter(|open| !open.skipped) else { return false };
        open.rows += 1;
        open.is_ordered &= id > open.highest;
        open.highest = open.highest.max(id);
        let number = open.rows + if open.is_ordered { 0 } else { UNORDERED };
        record.position = open.transaction.behind(id, number);
        let buffered = Buffered {
            weight: record.weight(),
            record: Arc::new(record),
            row: Row { id, xid: open.transaction.xid },
            number,
            transaction: open.transaction.clone(),
        };
        self.bytes += buffered.weight;
        self.end_name = None;
        self.records.push_back(buffered);
        true
    }

    /// The transaction that was coming in has come whole, up to this place of the log. Gives its number: whatever becomes of
    /// its rows here, the log has them alone until the table shows them.
    pub(super) fn commit(&mut self, end: Lsn) -> Option<u64> {
        self.log.lsn = self.log.lsn.max(end.0);
        let open = self.open.take()?;
        if open.rows > 0 {
            self.passed = self.passed.and(open.transaction.xid);
        }
        Some(open.transaction.xid)
    }

    /// All that `snapshot` sees has come, if it has to do with entries at all. That is noted only of transactions numbered
    /// before the last one that came: a later number may be given again by a server that takes over without its end.
    pub(super) fn pass(&mut self, snapshot: &Snapshot) {
        self.near = self.near.max(snapshot.xmax());
        self.passed = self.passed.seen_by_either(&snapshot.below(self.passed.xmax()));
    }

    /// How many transactions have to be named to say what was passed.
    pub(super) fn width(&self) -> u64 {
        self.passed.width()
    }

    /// Gives out only what this sees; all if there is none.
    pub(super) fn gate(&mut self, gate: Option<Snapshot>) {
        self.gate = gate;
    }

    /// Whether `after` is the place behind the last record.
    pub(super) fn is_end(&self, after: &Position) -> bool {
        let index = self.index(after).or_else(|| self.place_of(&Standing::parse(after).ok()?));
        index == Some(self.records.len())
    }

    /// The name that was given to the place behind the last record.
    pub(super) fn end_name(&self) -> Option<&Position> {
        self.end_name.as_ref()
    }

    /// Gives it another one, by which it is found.
    pub(super) fn name_end(&mut self, name: Position) {
        self.end_name = Some(name);
    }

    /// Whether rows wait that the gate holds back.
    pub(super) fn is_held_back(&self) -> bool {
        // Of two commits the later may be seen first.
        self.gate.is_some() && self.records.range(self.asked..).any(|one| !self.is_out(one))
    }

    /// Whether so much waits to be read that nothing more is to come.
    pub(super) fn is_full(&self) -> bool {
        self.bytes - self.asked_bytes >= MOST_BYTES || self.records.len() - self.asked >= MOST_RECORDS
    }

    /// Lets go of all that waits to be read: it is read in the table.
    pub(super) fn clear(&mut self) {
        if let Some(open) = self.open.as_mut().filter(|open| open.rows > 0 && !open.skipped) {
            // It has committed, so the rest of it is in the table, too, or will be once a standby has it.
            open.skipped = true;
            self.passed = self.passed.and(open.transaction.xid);
        }
        self.begin_at(resting(&self.passed, self.log));
    }

    fn begin_at(&mut self, base: Position) {
        self.base = base;
        self.records.clear();
        (self.asked, self.asked_bytes, self.bytes) = (0, 0, 0);
        self.end_name = None;
    }

    /// `position` is one of this history.
    pub(super) fn know(&mut self, position: Position) {
        self.known.retain(|known| *known != position);
        if self.known.len() == MOST_KNOWN {
            self.known.pop_front();
        }
        self.known.push_back(position);
    }

    /// What comes behind `after`. Nothing is consumed, but what comes before the furthest place that was asked for may be let
    /// go of.
    ///
    /// # Errors
    /// If `after` is neither a place of this chain nor any other position.
    pub(super) fn find(&mut self, after: &Position, limit: Limit) -> Result<Found, StoreError> {
        if let Some(index) = self.index(after) {
            return Ok(self.behind(index, after, limit));
        }
        let standing = Standing::parse(after)?;
        if is_whole(&standing) && !self.known.contains(after) {
            return Ok(Found::Unknown);
        }
        if let Some(index) = self.place_of(&standing) {
            return Ok(self.behind(index, after, limit));
        }
        if self.begin_anew(after, &standing) {
            return Ok(self.behind(0, after, limit));
        }
        Ok(Found::Elsewhere(self.target()))
    }

    fn behind(&mut self, index: usize, after: &Position, limit: Limit) -> Found {
        let page = self.page(index, limit);
        if index > self.asked {
            self.asked_bytes += self.records.range(self.asked..index).map(|one| one.weight).sum::<usize>();
            self.asked = index;
            self.let_go();
        }
        page.map_or_else(|| Found::End(after.clone()), Found::Page)
    }

    /// The place where just the same was read, though otherwise.
    fn place_of(&self, standing: &Standing) -> Option<usize> {
        if !is_whole(standing) {
            return None;
        }
        (0..=self.records.len()).find(|index| self.whole_at(*index).is_some_and(|(whole, _)| *whole == standing.passed))
    }

    /// What was passed before the record with this index, if no transaction is read in part there.
    fn whole_at(&self, index: usize) -> Option<(&Snapshot, LogPlace)> {
        match (self.records.get(index), &self.open) {
            (Some(next), _) => (next.number == 1).then_some((&next.transaction.passed, next.transaction.log)),
            (None, Some(open)) if open.rows > 0 && !open.skipped => None,
            (None, _) => Some((&self.passed, self.log)),
        }
    }

    /// The first place from the furthest that was asked for where no transaction is read in part; or else the end of the
    /// transaction that is coming in: then the chain begins anew there.
    fn target(&self) -> Target {
        let whole = (self.asked..=self.records.len()).find_map(|index| self.whole_at(index));
        match (whole, &self.open) {
            (Some((to, log)), _) => Target { to: to.clone(), log },
            (None, Some(open)) => {
                Target { to: open.transaction.passed.and(open.transaction.xid), log: open.transaction.log }
            }
            (None, None) => Target { to: self.passed.clone(), log: self.log },
        }
    }

    /// The index of the record that comes behind `after`.
    fn index(&self, after: &Position) -> Option<usize> {
        let is_at = |index: usize| match index.checked_sub(1) {
            None => self.base == *after,
            Some(before) => self.records.get(before).is_some_and(|before| before.record.position == *after),
        };
        // Most ask where the last page ended.
        if self.end_name.as_ref() == Some(after) {
            return Some(self.records.len());
        }
        let near = (self.asked..=self.records.len()).find(|index| is_at(*index));
        near.or_else(|| (0..self.asked).find(|index| is_at(*index)))
    }

    fn is_out(&self, one: &Buffered) -> bool {
        self.gate.as_ref().is_none_or(|gate| gate.sees(one.row.xid))
    }

    fn page(&self, from: usize, limit: Limit) -> Option<Page> {
        let (mut events, mut bytes) = (0_usize, 0_usize);
        let mut records: Vec<Arc<Record>> = Vec::new();
        let mut more = false;
        for one in self.records.range(from..).take_while(|one| self.is_out(one)) {
            events = events.saturating_add(one.record.len());
            bytes = bytes.saturating_add(one.weight);
            if !records.is_empty() && (events > limit.events || bytes > limit.bytes) {
                more = true;
                break;
            }
            records.push(one.record.clone());
        }
        let next = records.last()?.position.clone();
        Some(Page { records, next, more, end: false })
    }

    /// Lets go of what was read, but for the last of it.
    fn let_go(&mut self) {
        while self.asked_bytes > KEPT_BYTES || self.asked > MOST_RECORDS {
            let Some(first) = self.records.pop_front() else { return };
            self.asked -= 1;
            self.asked_bytes -= first.weight;
            self.bytes -= first.weight;
            self.base = first.record.position.clone();
        }
    }
}

/// Whether nothing is read in part there.
fn is_whole(standing: &Standing) -> bool {
    matches!(standing.reading, Reading::Rest | Reading::Log { inside: None })
}

fn resting(passed: &Snapshot, log: LogPlace) -> Position {
    Standing { passed: passed.clone(), reading: Reading::Log { inside: None }, log }.position()
}

#[cfg(test)]
mod tests;
