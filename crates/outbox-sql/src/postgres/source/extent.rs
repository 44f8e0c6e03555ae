//! Where the rows of a range lie, and so how they are read best.

use std::collections::VecDeque;

use outbox::StoreError;
use tokio_postgres::types::Type;

use super::{
    session::{Param, Using},
    unseen::{LISTED, Seen, bounds},
};
use crate::postgres::{
    failure::store_error,
    position::{LogPlace, Snapshot, fitted},
};

const MEASURING: &str = "looking where unread entries begin";
/// So many index entries at most are gone through for the lowest unseen id of a backlog.
const SEARCHED: i64 = 5_000_000;
/// Rows lie close enough to be walked if there is one in so many ids.
const DENSE: u64 = 16;
/// As many ids as are walked in any case.
const SHORT: u64 = 1_024;
/// Ranges that are remembered.
const REMEMBERED: usize = 16;

/// Where the rows of a range lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// No row has a lower id.
    pub(super) first: i64,
    /// No row has a higher one.
    pub(super) last: i64,
    /// Whether to look for each row by itself, rather than walk from id to id.
    pub(super) is_sparse: bool,
}

impl Extent {
    /// Of `rows` listed rows from `first` to `last`.
    pub(super) fn listed(rows: i64, first: i64, last: i64) -> Self {
        let ids = last.abs_diff(first);
        Self { first, last, is_sparse: ids > SHORT && ids / DENSE > rows.unsigned_abs() }
    }
}

/// Where a backlog's rows lie: more than are listed, of what `to` sees and `passed` does not. `listed` is the lowest id among
/// those that were listed.
pub(super) async fn of_backlog(
    using: &Using<'_>,
    (passed, to): (&Snapshot, &Snapshot),
    listed: i64,
) -> Result<Extent, StoreError> {
    let searched = format!(
        "SELECT count(*), min(u.id)::bigint, (SELECT min(e.id)::bigint FROM outbox.entries AS e), \
         (SELECT max(e.id)::bigint FROM outbox.entries AS e) \
         FROM ((SELECT e.id FROM outbox.entries AS e WHERE e.xid >= $1::text::xid8 \
         AND pg_visible_in_snapshot(e.xid, $2::text::pg_snapshot) ORDER BY e.xid, e.id LIMIT {SEARCHED}) \
         UNION ALL (SELECT o.id FROM unnest($3::text[]::xid8[], $4::text[]::xid8[]) AS r (first, last), \
         LATERAL (SELECT e.id FROM outbox.entries AS e WHERE e.xid >= r.first AND e.xid <= r.last \
         AND pg_visible_in_snapshot(e.xid, $2::text::pg_snapshot) ORDER BY e.xid, e.id LIMIT {SEARCHED}) AS o)) AS u"
    );
    let (first, last) = bounds(&passed.running_seen_by(to));
    let sql = fitted(using.sql(&searched), &[(2, to)]);
    let (xmax, to) = (passed.xmax().to_string(), to.to_sql());
    let params: [Param<'_>; 4] =
        [(&xmax, Type::TEXT), (&to, Type::TEXT), (&first, Type::TEXT_ARRAY), (&last, Type::TEXT_ARRAY)];
    let read = async {
        let row = using.client().query_typed_one(&sql, &params).await?;
        Ok::<(i64, [Option<i64>; 3]), tokio_postgres::Error>((
            row.try_get(0)?,
            [row.try_get(1)?, row.try_get(2)?, row.try_get(3)?],
        ))
    };
    let (searched, [lowest, bottom, top]) = using.within(MEASURING, read).await?;
    let first = if searched < SEARCHED { lowest } else { bottom };
    let (bottom, top) = (bottom.unwrap_or(listed), top.unwrap_or(listed));
    Ok(Extent { first: first.unwrap_or(bottom).min(listed), last: top, is_sparse: false })
}

/// Where the rest of a range lies, above an id where it was read before; `None` if nothing is left.
pub(super) async fn of_rest(
    using: &Using<'_>,
    (passed, to): (&Snapshot, &Snapshot),
    above: Option<i64>,
) -> Result<Option<Extent>, StoreError> {
    let seen = Seen::by(passed, Some(to), above.unwrap_or(i64::MIN));
    let sql = fitted(using.sql(super::unseen::measure_sql(&seen)), &[(7, to)]);
    let none: Option<String> = None;
    let nothing: [Param<'_>; 4] = [(&none, Type::TEXT), (&none, Type::TEXT), (&none, Type::TEXT), (&none, Type::TEXT)];
    let params: Vec<Param<'_>> = nothing.into_iter().chain(seen.params()).collect();
    let row = using.within(MEASURING, using.client().query_typed_one(&sql, &params)).await?;
    let read = |column| row.try_get::<_, Option<i64>>(column).map_err(store_error(MEASURING));
    let (Some(rows), Some(first), Some(last), top) = (read(0)?, read(1)?, read(2)?, read(3)?) else { return Ok(None) };
    match above {
        _ if rows < LISTED => Ok(Some(Extent::listed(rows, first, last))),
        Some(above) => Ok(Some(Extent { first: above.saturating_add(1), last: top.unwrap_or(last), is_sparse: false })),
        None => of_backlog(using, (passed, to), first).await.map(Some),
    }
}

/// Ranges that were begun, and where readers that are behind go on: to the end of the newest one, so that they come to where
/// the others are.
#[derive(Default)]
pub(in crate::postgres) struct Ranges {
    newest: Option<(Snapshot, LogPlace)>,
    extents: VecDeque<Measured>,
}

/// Where the rest of a range lies.
struct Measured {
    passed: Snapshot,
    to: Snapshot,
    /// The rest above this id; of the whole range, if of none.
    above: Option<i64>,
    extent: Extent,
}

impl Ranges {
    /// Where to go on from `passed`, which others have gone beyond.
    pub(super) fn beyond(&self, passed: &Snapshot) -> Option<(Snapshot, LogPlace)> {
        self.newest.clone().filter(|(newest, _)| newest != passed && newest.sees_all_of(passed))
    }

    /// A range was begun whose end is flushed.
    pub(super) fn begun(&mut self, passed: &Snapshot, to: &Snapshot, log: LogPlace, extent: Extent) {
        self.newest = Some((to.clone(), log));
        self.measured((passed, to), None, extent);
    }

    /// What is left of a range above an id lies so.
    pub(super) fn measured(&mut self, (passed, to): (&Snapshot, &Snapshot), above: Option<i64>, extent: Extent) {
        if self.extents.len() == REMEMBERED {
            self.extents.pop_front();
        }
        self.extents.push_back(Measured { passed: passed.clone(), to: to.clone(), above, extent });
    }

    /// Where the rest of a range lies, above an id. What was measured for who had read more of it does not count.
    pub(super) fn extent(&self, (passed, to): (&Snapshot, &Snapshot), above: Option<i64>) -> Option<Extent> {
        let is_of_it = |known: &&Measured| (&known.passed, &known.to) == (passed, to) && known.above <= above;
        self.extents.iter().rev().find(is_of_it).map(|known| known.extent)
    }

    /// The history was found to be another: nothing of it counts.
    pub(in crate::postgres) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_rows_far_apart_are_looked_for_each_by_itself() {
        assert!(!Extent::listed(1, 7, 7).is_sparse);
        assert!(!Extent::listed(2, 1, 1_000).is_sparse);
        assert!(Extent::listed(51, 5, 3_000_000).is_sparse);
        assert!(!Extent::listed(4_000, 5, 30_000).is_sparse);
    }

    #[test]
    fn who_is_behind_goes_on_to_the_end_of_the_newest_range() {
        let mut ranges = Ranges::default();
        let snapshot = |xmax| Snapshot::new(xmax, []);
        let extent = Extent::listed(1, 1, 1);
        assert_eq!(ranges.beyond(&snapshot(5)), None);
        ranges.begun(&snapshot(5), &snapshot(9), LogPlace::default(), extent);
        assert_eq!(ranges.beyond(&snapshot(5)).map(|(to, _)| to), Some(snapshot(9)));
        assert_eq!(ranges.beyond(&snapshot(9)), None, "it is there");
        assert_eq!(ranges.beyond(&snapshot(12)), None, "it is further");
        assert_eq!(ranges.extent((&snapshot(5), &snapshot(9)), Some(7)), Some(extent));
    }

    #[test]
    fn what_was_measured_for_one_who_has_read_more_does_not_count_for_one_who_has_read_less() {
        let mut ranges = Ranges::default();
        let snapshot = |xmax| Snapshot::new(xmax, []);
        let (from, to) = (snapshot(5), snapshot(9));
        let extent = Extent::listed(3, 41, 50);
        ranges.measured((&from, &to), Some(40), extent);
        assert_eq!(ranges.extent((&from, &to), Some(9)), None);
        assert_eq!(ranges.extent((&from, &to), None), None);
        assert_eq!(ranges.extent((&from, &to), Some(40)), Some(extent));
        assert_eq!(ranges.extent((&from, &to), Some(45)), Some(extent));
    }
}
