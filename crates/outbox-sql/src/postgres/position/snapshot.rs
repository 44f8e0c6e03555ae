//! A snapshot: which transactions had ended at a moment.

use std::{cmp::Ordering, fmt::Write};

use super::Malformed;

/// Which transactions had ended at a moment, as `pg_current_snapshot()` says: all below `xmax` but those that were running,
/// prepared ones among these. Transactions are numbered with 64 bits, so no number comes twice.
///
/// Snapshots of one history follow each other: a later one sees all that an earlier one saw. [`Ord`] puts them in that order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Snapshot {
    xmax: u64,
    /// Rising, each below `xmax`.
    running: Vec<u64>,
}

impl Snapshot {
    /// Sees nothing: before the first transaction.
    pub(crate) const EMPTY: Self = Self { xmax: 0, running: Vec::new() };

    /// All below `xmax` but those of `running`, in any order; what is not below `xmax` says nothing.
    pub(crate) fn new(xmax: u64, running: impl IntoIterator<Item = u64>) -> Self {
        let mut running: Vec<_> = running.into_iter().filter(|xid| *xid < xmax).collect();
        running.sort_unstable();
        running.dedup();
        Self { xmax, running }
    }

    /// The first transaction that had not been given a number, or not ended with all before it.
    pub(crate) fn xmax(&self) -> u64 {
        self.xmax
    }

    /// What was running, rising.
    pub(crate) fn running(&self) -> &[u64] {
        &self.running
    }

    /// Whether transaction `xid` had ended. So `pg_visible_in_snapshot` says.
    pub(crate) fn sees(&self, xid: u64) -> bool {
        xid < self.xmax && self.running.binary_search(&xid).is_err()
    }

    /// Whether it sees whatever `other` sees.
    pub(crate) fn sees_all_of(&self, other: &Self) -> bool {
        let missed = |xid: &u64| *xid < other.xmax && other.running.binary_search(xid).is_err();
        let beyond = (self.xmax..other.xmax).any(|xid| missed(&xid));
        !beyond && !self.running.iter().any(missed)
    }

    /// What both see.
    pub(crate) fn seen_by_both(&self, other: &Self) -> Self {
        let running = self.running.iter().chain(&other.running).copied();
        Self::new(self.xmax.min(other.xmax), running)
    }

    /// The same, without what is numbered `xid` or higher.
    pub(crate) fn below(&self, xid: u64) -> Self {
        Self::new(self.xmax.min(xid), self.running.iter().copied())
    }

    /// The same, and `xid` besides. Transactions between that it did not see stay unseen: there are as many more in
    /// [`running`](Self::running).
    pub(crate) fn and(&self, xid: u64) -> Self {
        let between = self.xmax..xid;
        let running = self.running.iter().copied().filter(|running| *running != xid);
        Self { xmax: self.xmax.max(xid + 1), running: running.chain(between).collect() }
    }

    /// Reads what PostgreSQL prints: `xmin:xmax:running,…`.
    pub(crate) fn from_sql(text: &str) -> Result<Self, Malformed> {
        let mut parts = text.split(':');
        let (Some(_), Some(xmax), Some(running), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Malformed);
        };
        let running = running.split(',').filter(|xid| !xid.is_empty()).map(number).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::new(number(xmax)?, running))
    }

    /// As PostgreSQL reads it.
    pub(crate) fn to_sql(&self) -> String {
        // Zero is no transaction's number, and refused.
        let xmax = self.xmax.max(1);
        let xmin = self.running.first().copied().unwrap_or(xmax);
        let mut text = format!("{xmin}:{xmax}:");
        for (index, xid) in self.running.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            // Writing to a string does not fail.
            let _ = write!(text, "{comma}{xid}");
        }
        text
    }

    /// Appends its short form: `xmax`, then how far each running one is below the one above it, as `101-1.2`: 100 and 98.
    pub(super) fn write(&self, text: &mut String) {
        let mut digits = itoa::Buffer::new();
        text.push_str(digits.format(self.xmax));
        let mut above = self.xmax;
        for (index, xid) in self.running.iter().rev().enumerate() {
            text.push(if index == 0 { '-' } else { '.' });
            text.push_str(digits.format(above - xid));
            above = *xid;
        }
    }

    /// Reads the short form.
    pub(super) fn read(text: &str) -> Result<Self, Malformed> {
        let (xmax, gaps) = text.split_once('-').map_or((text, None), |(xmax, gaps)| (xmax, Some(gaps)));
        let xmax = number(xmax)?;
        let mut running = Vec::new();
        let mut above = xmax;
        for gap in gaps.into_iter().flat_map(|gaps| gaps.split('.')) {
            let gap = number(gap)?;
            above = above.checked_sub(gap).filter(|_| gap > 0).ok_or(Malformed)?;
            running.push(above);
        }
        running.reverse();
        Ok(Self { xmax, running })
    }
}

impl Ord for Snapshot {
    fn cmp(&self, other: &Self) -> Ordering {
        // While `xmax` stays, running ones can only end. The last comparison is for those of different histories.
        let ended = other.running.len().cmp(&self.running.len());
        self.xmax.cmp(&other.xmax).then(ended).then_with(|| self.running.cmp(&other.running))
    }
}

impl PartialOrd for Snapshot {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Digits only, as every number in a position is.
pub(super) fn number(text: &str) -> Result<u64, Malformed> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshots() -> impl Strategy<Value = Snapshot> {
        (1_u64..60, prop::collection::vec(1_u64..60, 0..8)).prop_map(|(xmax, running)| Snapshot::new(xmax, running))
    }

    fn seen(snapshot: &Snapshot) -> Vec<u64> {
        (1..70).filter(|xid| snapshot.sees(*xid)).collect()
    }

    #[test]
    fn what_postgresql_prints_is_read_and_written() {
        for text in ["731:731:", "98:101:98,100", "1:1:", "3:18446744073709551615:3,18446744073709551614"] {
            let read = Snapshot::from_sql(text).unwrap();
            assert_eq!(read.to_sql(), text);
        }
        for text in ["", "1:2", "1:2:3:4", "1:x:", "1:2:a", "1:-2:", "1:2:1,-1"] {
            assert!(Snapshot::from_sql(text).is_err(), "{text}");
        }
        assert_eq!(Snapshot::EMPTY.to_sql(), "1:1:");
    }

    #[test]
    fn a_snapshot_sees_what_had_ended_and_nothing_else() {
        let snapshot = Snapshot::from_sql("98:101:98,100").unwrap();
        let seen: Vec<_> = (96..103).filter(|xid| snapshot.sees(*xid)).collect();
        assert_eq!(seen, [96, 97, 99]);
        assert!(!Snapshot::EMPTY.sees(0));
    }

    #[test]
    fn the_short_form_is_short() {
        let mut text = String::new();
        Snapshot::new(1_000_101, [1_000_100, 1_000_098]).write(&mut text);
        assert_eq!(text, "1000101-1.2");
    }

    #[test]
    fn what_is_no_short_form_is_refused() {
        for text in ["", "-1", "10-", "10-0", "10-11", "10-1.", "10-1.x", "10-5.6", "+1"] {
            assert!(Snapshot::read(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_snapshot_is_read_back(snapshot in snapshots()) {
            let mut text = String::new();
            snapshot.write(&mut text);
            prop_assert_eq!(Snapshot::read(&text), Ok(snapshot.clone()));
            prop_assert_eq!(seen(&Snapshot::from_sql(&snapshot.to_sql()).unwrap()), seen(&snapshot));
        }

        #[test]
        fn both_see_what_each_sees(one in snapshots(), other in snapshots()) {
            let both: Vec<_> = (1..70).filter(|xid| one.sees(*xid) && other.sees(*xid)).collect();
            prop_assert_eq!(seen(&one.seen_by_both(&other)), both.clone());
            prop_assert_eq!(one.sees_all_of(&other), both == seen(&other));
        }

        #[test]
        fn a_snapshot_cut_off_sees_only_what_is_below(snapshot in snapshots(), xid in 1_u64..60) {
            let below: Vec<_> = seen(&snapshot).into_iter().filter(|seen| *seen < xid).collect();
            prop_assert_eq!(seen(&snapshot.below(xid)), below);
        }

        #[test]
        fn one_more_transaction_is_seen_and_no_other(snapshot in snapshots(), xid in 1_u64..60) {
            let and = snapshot.and(xid);
            let mut expected = seen(&snapshot);
            if !expected.contains(&xid) {
                expected.push(xid);
                expected.sort_unstable();
            }
            prop_assert_eq!(seen(&and), expected);
            prop_assert!(snapshot.sees(xid) || and > snapshot, "{:?} follows {:?}", and, snapshot);
        }
    }
}
