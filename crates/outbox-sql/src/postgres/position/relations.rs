//! How positions stand to each other: which comes first, what several have in common, and what is left of one when history
//! went backwards.

use std::cmp::Ordering;

use super::{LogPlace, Reading, Row, Snapshot, Standing};

impl Standing {
    /// What it reads to: at rest, what it has passed.
    fn end(&self) -> Snapshot {
        match &self.reading {
            Reading::Rest | Reading::Log { inside: None } => self.passed.clone(),
            Reading::Range { to, .. } => to.clone(),
            Reading::Log { inside: Some((row, _)) } => self.passed.and(row.xid),
        }
    }

    /// Up to which id it has read what [`end`](Self::end) sees.
    fn through(&self) -> i64 {
        match &self.reading {
            Reading::Rest | Reading::Log { inside: None } => i64::MAX,
            Reading::Range { last, .. } => last.map_or(i64::MIN, |last| last.id),
            Reading::Log { inside: Some((last, _)) } => last.id,
        }
    }

    /// Within one range of the log, rows need not be in the order of their ids.
    fn rows(&self) -> Option<u64> {
        match &self.reading {
            Reading::Rest | Reading::Range { .. } | Reading::Log { inside: None } => None,
            Reading::Log { inside: Some((_, rows)) } => Some(*rows),
        }
    }

    /// Transactions of this number and above are not known of here.
    pub(crate) fn xmax(&self) -> u64 {
        self.passed.xmax().max(self.end().xmax())
    }

    /// A position that is past nothing that either of them is not past: where routes that stand at these can go on
    /// together. It is past all that both of them are, where one range leads to both.
    pub(crate) fn passed_by_both(&self, other: &Self) -> Self {
        if self == other {
            return self.clone();
        }
        let passed = self.passed.seen_by_both(&other.passed);
        let (one, other) = (self.polled(), other.polled());
        let to = one.end().seen_by_both(&other.end());
        let log = one.log.min(other.log);
        if passed.sees_all_of(&to) {
            return Self::at_rest(passed, log);
        }
        let last = if one.through() <= other.through() { one.last() } else { other.last() };
        Self { passed, reading: Reading::Range { to, last, then: None }, log }
    }

    /// The same for polling: a transaction of the log that was not read whole was not read at all, for its rows come in
    /// another order.
    pub(crate) fn polled(&self) -> Self {
        match &self.reading {
            Reading::Rest | Reading::Range { .. } => self.clone(),
            Reading::Log { .. } => Self::at_rest(self.passed.clone(), self.log),
        }
    }

    /// Where to go on from here after a loss, when row `agreed` was found still to be there: what was numbered before its
    /// transaction was not numbered anew since. What is numbered behind it counts as unread, for other transactions may have
    /// these numbers now; what survived of it is read again.
    pub(crate) fn after_loss(&self, agreed: Row) -> Self {
        let first = agreed.xid.saturating_add(1);
        let polled = self.polled();
        let (passed, to) = (polled.passed.below(first), polled.end().below(first));
        let log = LogPlace::default();
        if passed.sees_all_of(&to) {
            return Self::at_rest(passed, log);
        }
        // The row itself may be gone.
        let last = polled.last().map(|last| Row { id: last.id, xid: 0 });
        Self { passed, reading: Reading::Range { to, last, then: None }, log }
    }

    /// Where to begin instead of here, where nothing was read yet, so that reading comes to `end` exactly.
    pub(crate) fn leading_to(&self, end: &Self) -> Self {
        let beyond = end.end();
        // Not only where it sees more: what ends with a later snapshot comes later, though nothing may be in between.
        let further = beyond > end.passed;
        let (to, then) = if self.passed.sees_all_of(&end.passed) {
            (beyond, None)
        } else {
            (end.passed.clone(), further.then_some(beyond))
        };
        if self.passed >= to {
            return self.clone();
        }
        let reading = Reading::Range { to, last: self.last(), then };
        Self { passed: self.passed.clone(), reading, log: end.log }
    }

    /// Which comes first: what is read up to an earlier snapshot, then what is read from an earlier one, then by id.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        let ends = self.end().cmp(&other.end());
        ends.then_with(|| self.passed.cmp(&other.passed)).then_with(|| match (self.rows(), other.rows()) {
            (Some(one), Some(other)) => one.cmp(&other),
            _ => self.through().cmp(&other.through()),
        })
    }
}
