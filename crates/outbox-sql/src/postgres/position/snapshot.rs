//! A snapshot: which transactions had ended at a moment.

use std::{borrow::Cow, cmp::Ordering, fmt::Write, iter::once, ops::Range};

use super::Malformed;

/// More running ones than these are not written out for a statement one by one.
const WIDE: u64 = 4_096;

/// Which transactions had ended at a moment, as `pg_current_snapshot()` says: all below `xmax` but those that were running,
/// prepared ones among these. Transactions are numbered with 64 bits, so no number comes twice.
///
/// Snapshots of one history follow each other: a later one sees all that an earlier one saw. [`Ord`] puts them in that order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Snapshot {
    xmax: u64,
    /// Rising, none empty, none touching the next, each below `xmax`. What has come of a log may leave out millions in a row.
    running: Vec<Range<u64>>,
}

impl Snapshot {
    /// Sees nothing: before the first transaction.
    pub(crate) const EMPTY: Self = Self { xmax: 0, running: Vec::new() };

    /// All below `xmax` but those of `running`, in any order; what is not below `xmax` says nothing.
    pub(crate) fn new(xmax: u64, running: impl IntoIterator<Item = u64>) -> Self {
        Self::but(xmax, running.into_iter().map(|xid| xid..xid.saturating_add(1)))
    }

    /// The same, of ranges that may overlap.
    fn but(xmax: u64, running: impl IntoIterator<Item = Range<u64>>) -> Self {
        let mut ranges: Vec<_> = running.into_iter().map(|range| range.start..range.end.min(xmax)).collect();
        ranges.retain(|range| !range.is_empty());
        ranges.sort_unstable_by_key(|range| range.start);
        ranges.dedup_by(|next, before| {
            let touches = next.start <= before.end;
            if touches {
                before.end = before.end.max(next.end);
            }
            touches
        });
        Self { xmax, running: ranges }
    }

    /// The first transaction that had not been given a number, or not ended with all before it.
    pub(crate) fn xmax(&self) -> u64 {
        self.xmax
    }

    /// What was running, rising.
    pub(crate) fn running(&self) -> &[Range<u64>] {
        &self.running
    }

    /// How many were running.
    pub(crate) fn width(&self) -> u64 {
        self.running.iter().map(|range| range.end - range.start).sum()
    }

    /// The first transaction that it does not see.
    pub(crate) fn first_unseen(&self) -> u64 {
        self.running.first().map_or(self.xmax, |range| range.start)
    }

    /// Whether transaction `xid` had ended. So `pg_visible_in_snapshot` says.
    pub(crate) fn sees(&self, xid: u64) -> bool {
        xid < self.xmax && !self.is_running(xid..xid + 1)
    }

    /// Whether all of `range` was running.
    fn is_running(&self, range: Range<u64>) -> bool {
        let next = self.running.partition_point(|running| running.end <= range.start);
        self.running.get(next).is_some_and(|running| running.start <= range.start && range.end <= running.end)
    }

    /// Whether it sees whatever `other` sees.
    pub(crate) fn sees_all_of(&self, other: &Self) -> bool {
        let mut unseen = self.running.iter().cloned().chain(once(self.xmax..u64::MAX));
        unseen.all(|range| {
            let below = range.start..range.end.min(other.xmax);
            below.is_empty() || other.is_running(below)
        })
    }

    /// What both see.
    pub(crate) fn seen_by_both(&self, other: &Self) -> Self {
        Self::but(self.xmax.min(other.xmax), self.running.iter().chain(&other.running).cloned())
    }

    /// What one of them sees.
    pub(crate) fn seen_by_either(&self, other: &Self) -> Self {
        let (later, earlier) = if self.xmax >= other.xmax { (self, other) } else { (other, self) };
        let unseen: Vec<_> = earlier.running.iter().cloned().chain(once(earlier.xmax..u64::MAX)).collect();
        Self::but(later.xmax, common(&later.running, &unseen))
    }

    /// What was running, and is seen by `other`: rising.
    pub(crate) fn running_seen_by(&self, other: &Self) -> Vec<Range<u64>> {
        let starts = [0].into_iter().chain(other.running.iter().map(|range| range.end));
        let ends = other.running.iter().map(|range| range.start).chain([other.xmax]);
        let seen: Vec<_> = starts.zip(ends).map(|(start, end)| start..end).collect();
        common(&self.running, &seen)
    }

    /// The same, without what is numbered `xid` or higher.
    pub(crate) fn below(&self, xid: u64) -> Self {
        Self::but(self.xmax.min(xid), self.running.iter().cloned())
    }

    /// The same, and `xid` besides. Transactions between that it did not see stay unseen: they count as
    /// [`running`](Self::running).
    pub(crate) fn and(&self, xid: u64) -> Self {
        let above = xid.saturating_add(1);
        let unseen: Vec<_> = self.running.iter().cloned().chain(once(self.xmax..above.max(self.xmax))).collect();
        Self::but(self.xmax.max(above), common(&unseen, &[0..xid, above..u64::MAX]))
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

    /// As a parameter of a statement that is [`fitted`] to it.
    pub(crate) fn to_sql(&self) -> String {
        if self.is_wide() { self.unseen_sql() } else { self.listed() }
    }

    /// What it does not see, as PostgreSQL reads an `int8multirange`.
    pub(crate) fn unseen_sql(&self) -> String {
        let mut text = String::from("{");
        for Range { start, end } in &self.running {
            // Writing to a string does not fail.
            let _ = write!(text, "[{start},{end}),");
        }
        let _ = write!(text, "[{},)}}", self.xmax);
        text
    }

    /// The same or less, so that it can be written as PostgreSQL's own snapshots are.
    pub(crate) fn narrowed(&self) -> Self {
        if self.is_wide() { self.below(self.first_unseen()) } else { self.clone() }
    }

    fn is_wide(&self) -> bool {
        self.width() > WIDE
    }

    /// As PostgreSQL writes and reads a `pg_snapshot`.
    fn listed(&self) -> String {
        // Zero is no transaction's number, and refused.
        let (xmin, xmax) = (self.first_unseen().max(1), self.xmax.max(1));
        let mut text = format!("{xmin}:{xmax}:");
        let mut digits = itoa::Buffer::new();
        for (index, xid) in self.running.iter().cloned().flatten().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(digits.format(xid));
        }
        text
    }

    /// Appends its short form: `xmax`, then how far each running one is below the one above it, as `101-1.2`: 100 and 98. Of
    /// more than two in a row the highest is written, and how many they are, as `101-1*50`: 100 to 51.
    pub(super) fn write(&self, text: &mut String) {
        // Writing to a string does not fail.
        let _ = write!(text, "{}", self.xmax);
        let mut above = self.xmax;
        for (index, range) in self.running.iter().rev().enumerate() {
            text.push(if index == 0 { '-' } else { '.' });
            let (first, count) = (above - range.end + 1, range.end - range.start);
            let _ = match count {
                1 => write!(text, "{first}"),
                2 => write!(text, "{first}.1"),
                _ => write!(text, "{first}*{count}"),
            };
            above = range.start;
        }
    }

    /// Reads the short form.
    pub(super) fn read(text: &str) -> Result<Self, Malformed> {
        let (xmax, gaps) = text.split_once('-').map_or((text, None), |(xmax, gaps)| (xmax, Some(gaps)));
        let xmax = number(xmax)?;
        let mut running = Vec::new();
        let mut above = xmax;
        for gap in gaps.into_iter().flat_map(|gaps| gaps.split('.')) {
            let (first, count) = gap.split_once('*').map_or((gap, Ok(1)), |(first, count)| (first, number(count)));
            let (first, count) = (number(first)?, count?);
            let highest = above.checked_sub(first).filter(|_| first > 0).ok_or(Malformed)?;
            let lowest = highest.checked_sub(count.checked_sub(1).ok_or(Malformed)?).ok_or(Malformed)?;
            running.push(lowest..highest + 1);
            above = lowest;
        }
        Ok(Self::but(xmax, running))
    }
}

/// What is in both, each rising.
fn common(mut one: &[Range<u64>], mut other: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut both = Vec::new();
    while let ([first, rest @ ..], [second, others @ ..]) = (one, other) {
        let range = first.start.max(second.start)..first.end.min(second.end);
        if !range.is_empty() {
            both.push(range);
        }
        if first.end < second.end {
            one = rest;
        } else {
            other = others;
        }
    }
    both
}

impl Ord for Snapshot {
    fn cmp(&self, other: &Self) -> Ordering {
        // While `xmax` stays, running ones can only end. The last comparison is for those of different histories.
        let ended = other.width().cmp(&self.width());
        let bounds =
            |snapshot: &Self| -> Vec<_> { snapshot.running.iter().map(|range| (range.start, range.end)).collect() };
        self.xmax.cmp(&other.xmax).then(ended).then_with(|| bounds(self).cmp(&bounds(other)))
    }
}

impl PartialOrd for Snapshot {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `sql` for these snapshots, each with the number of its parameter: where one is wide, the statement's
/// `pg_visible_in_snapshot(e.xid, $number::text::pg_snapshot)` looks among ranges instead.
pub(crate) fn fitted<'s>(sql: impl Into<Cow<'s, str>>, snapshots: &[(usize, &Snapshot)]) -> Cow<'s, str> {
    let wide = snapshots.iter().filter(|(_, snapshot)| snapshot.is_wide());
    wide.fold(sql.into(), |sql, (number, _)| {
        let listed = format!("pg_visible_in_snapshot(e.xid, ${number}::text::pg_snapshot)");
        // Read from its text once, not for each row.
        let ranges = format!("(NOT e.xid::text::bigint <@ (SELECT ${number}::text::int8multirange))");
        Cow::Owned(sql.replace(&listed, &ranges))
    })
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
    fn millions_of_transactions_in_a_row_that_were_not_seen_take_no_room() {
        let snapshot = Snapshot::new(10, [9, 7]).and(5_000_000_000);
        let mut text = String::new();
        snapshot.write(&mut text);
        assert_eq!(text, "5000000001-2*4999999991.2");
        assert_eq!(Snapshot::read(&text), Ok(snapshot.clone()));
        assert!(snapshot.sees(5_000_000_000) && !snapshot.sees(4_999_999_999) && !snapshot.sees(9) && snapshot.sees(8));
        let later = Snapshot::new(6_000_000_000, [4_000_000_000]);
        assert_eq!(snapshot.seen_by_either(&later.below(snapshot.xmax())), later.below(5_000_000_001));
    }

    #[test]
    fn a_statement_looks_for_millions_of_transactions_by_ranges() {
        const SQL: &str = "pg_visible_in_snapshot(e.xid, $1::text::pg_snapshot) \
            OR pg_visible_in_snapshot(e.xid, $11::text::pg_snapshot)";
        let (narrow, wide) = (Snapshot::new(10, [9, 7]), Snapshot::new(10, [9, 7]).and(200_000_000));
        assert_eq!(wide.to_sql(), "{[7,8),[9,200000000),[200000001,)}");
        assert_eq!(wide.narrowed(), Snapshot::new(7, []));
        assert_eq!(narrow.narrowed(), narrow);
        assert_eq!(Snapshot::EMPTY.unseen_sql(), "{[0,)}");
        assert_eq!(fitted(SQL, &[(1, &narrow), (11, &narrow)]), SQL);
        assert_eq!(
            fitted(SQL, &[(1, &narrow), (11, &wide)]),
            "pg_visible_in_snapshot(e.xid, $1::text::pg_snapshot) \
             OR (NOT e.xid::text::bigint <@ (SELECT $11::text::int8multirange))"
        );
    }

    #[test]
    fn what_is_no_short_form_is_refused() {
        for text in
            ["", "-1", "10-", "10-0", "10-11", "10-1.", "10-1.x", "10-5.6", "+1", "10-1*0", "10-1*11", "10-1*", "10-*2"]
        {
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
        fn one_of_both_sees_what_either_sees(one in snapshots(), other in snapshots()) {
            let either: Vec<_> = (1..70).filter(|xid| one.sees(*xid) || other.sees(*xid)).collect();
            prop_assert_eq!(seen(&one.seen_by_either(&other)), either.clone());
            prop_assert_eq!(one.seen_by_either(&other), Snapshot::new(one.xmax.max(other.xmax), (1..70).filter(|xid| !either.contains(xid))));
            let unseen = one.running.iter().cloned().flatten().filter(|xid| other.sees(*xid));
            prop_assert_eq!(one.running_seen_by(&other).into_iter().flatten().collect::<Vec<_>>(), unseen.collect::<Vec<_>>());
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
