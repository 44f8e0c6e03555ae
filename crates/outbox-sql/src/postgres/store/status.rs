//! Keeping the status of a mapped table for those who look at it: behind all that is published, many rows at once.

use outbox::{Position, StoreError};
use tokio_postgres::types::Type;

use super::{Inner, agreement::Unread};
use crate::postgres::{
    failure::store_error,
    position::{Reading, Row, Snapshot, Standing, fitted},
    source::{Eight, Param},
    wal::UNORDERED,
};

const KEEPING: &str = "keeping the status of published rows";
/// Rows that are updated at once.
const BATCH: i64 = 1_000;
/// The plan is pinned as for reading; but what the owner's triggers may see is left alone.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL enable_seqscan = off; \
    SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off";

/// Up to where the status is kept. A relay that begins looks through the table once.
#[derive(Default)]
pub(in crate::postgres) struct Progress {
    kept: Option<Snapshot>,
    /// Of a range to this snapshot, besides, rows up to this id.
    within: Option<(Snapshot, i64)>,
    /// What this snapshot sees is being looked through, and was up to this row.
    begun: Option<(Snapshot, Row)>,
}

/// What to update: of what `$1` sees and `$2` does not, up to the id `$4`, behind the row of `$3` and `$5`; but nothing that no
/// route was to publish, which `$7` to `$9` say. `@…` are the table's own.
const UPDATE: &str = "WITH due AS MATERIALIZED (SELECT e.id, e.xid FROM outbox.entries AS e
            WHERE pg_visible_in_snapshot(e.xid, $1::text::pg_snapshot) AND NOT pg_visible_in_snapshot(e.xid, $2::text::pg_snapshot)
                AND @behind AND e.id <= $4 AND coalesce(e.status, @waiting) = @waiting
                AND NOT pg_visible_in_snapshot(e.xid, $7::text::pg_snapshot)
                AND NOT (e.id <= $9 AND pg_visible_in_snapshot(e.xid, $8::text::pg_snapshot))
            ORDER BY @order LIMIT $6),
        updated AS (UPDATE @table AS u SET @status = @done FROM due
            WHERE u.@id = due.id AND coalesce(u.@status::text, @waiting) = @waiting RETURNING u.@id AS id),
        latest AS (SELECT e.id, e.xid FROM due AS e ORDER BY @last LIMIT 1)
    SELECT (SELECT count(*) FROM due), (SELECT l.id::bigint FROM latest AS l), (SELECT l.xid FROM latest AS l),
        (SELECT count(*) FROM updated)";
/// By transactions, and by ids: what is behind a row, in what order, and in the opposite one.
const BY_TRANSACTION: [&str; 3] =
    ["(e.xid, e.id) > ($5::text::xid8, $3::bigint)", "e.xid, e.id", "e.xid DESC, e.id DESC"];
const BY_ID: [&str; 3] = ["e.id > $3 AND $5::text IS NOT NULL", "e.id", "e.id DESC"];

/// A part of the rows.
struct Part<'a> {
    seen: &'a Snapshot,
    but: &'a Snapshot,
    behind: Row,
    through: i64,
    /// Which of the two orders.
    order: [&'static str; 3],
}

impl Inner {
    /// Updates one batch of rows that `passed` is past. Gives whether there are more.
    pub(super) async fn keep_status(&self, passed: &Standing) -> Result<bool, StoreError> {
        let mut progress = self.status.lock().await;
        let kept = progress.kept.clone().unwrap_or(Snapshot::EMPTY);
        if !kept.sees_all_of(&passed.passed) {
            let is_full = self.up_to(&mut progress, kept, &passed.passed).await?;
            return Ok(is_full || passed.last().is_some());
        }
        let (to, last) = match &passed.reading {
            Reading::Range { to, last: Some(last), .. } => (to.clone(), last.id),
            // What is read in the log stands within its last transaction until another one comes.
            Reading::Log { inside: Some((last, number)) } if *number < UNORDERED => {
                (passed.passed.and(last.xid), last.id)
            }
            Reading::Rest | Reading::Range { last: None, .. } | Reading::Log { .. } => return Ok(false),
        };
        let above =
            progress.within.as_ref().filter(|(known, _)| *known == to).map_or(i64::MIN, |(_, through)| *through);
        if above >= last {
            return Ok(false);
        }
        let behind = Row { id: above, xid: 0 };
        let part = Part { seen: &to, but: &passed.passed, behind, through: last, order: BY_ID };
        let (latest, is_full) = self.update(&part).await?;
        let through = latest.filter(|_| is_full).map_or(last, |latest| latest.id);
        progress.within = Some((to, through));
        Ok(is_full)
    }

    /// All that `passed` sees and `kept` does not. Gives whether there is more of it.
    async fn up_to(&self, progress: &mut Progress, kept: Snapshot, passed: &Snapshot) -> Result<bool, StoreError> {
        // What was kept of a range that was read to its end meanwhile is not looked at again.
        if let Some((_, through)) = progress.within.as_ref().filter(|(to, _)| to == passed) {
            let behind = Row { id: *through, xid: 0 };
            let part = Part { seen: passed, but: &kept, behind, through: i64::MAX, order: BY_ID };
            let (latest, is_full) = self.update(&part).await?;
            match latest.filter(|_| is_full) {
                Some(latest) => progress.within = Some((passed.clone(), latest.id)),
                None => *progress = Progress { kept: Some(passed.clone()), ..Progress::default() },
            }
            return Ok(is_full);
        }
        // Nor is what was looked through of all that could be seen when this began.
        let begun = progress.begun.take().filter(|(seen, _)| passed.sees_all_of(seen));
        let from = Row { id: i64::MIN, xid: kept.first_unseen().max(1) };
        let (seen, behind) = begun.unwrap_or_else(|| (passed.clone(), from));
        let part = Part { seen: &seen, but: &kept, behind, through: i64::MAX, order: BY_TRANSACTION };
        let (latest, is_full) = self.update(&part).await?;
        if let Some(latest) = latest.filter(|_| is_full) {
            progress.begun = Some((seen, latest));
            return Ok(true);
        }
        let is_whole = seen == *passed;
        *progress = Progress { kept: Some(seen), ..Progress::default() };
        Ok(!is_whole)
    }

    /// What every route began behind: none of them was to publish it.
    pub(super) async fn given_to_nobody(&self) -> Result<Unread, StoreError> {
        let mut behind_all: Option<Standing> = None;
        for registration in self.routes().await? {
            let start = registration.start_position.map(Position::new);
            let start = start.as_ref().map_or(Ok(Standing::BEGINNING), Standing::parse)?;
            behind_all = Some(behind_all.map_or_else(|| start.clone(), |all| all.passed_by_both(&start)));
        }
        Ok(Unread::of(&behind_all.unwrap_or(Standing::BEGINNING)))
    }

    /// Gives the last row that was due, and whether there may be more.
    async fn update(&self, part: &Part<'_>) -> Result<(Option<Row>, bool), StoreError> {
        let Some((mapped, status)) = self.entries.mapped().and_then(|mapped| Some((mapped, mapped.status.as_ref()?)))
        else {
            return Ok((None, false));
        };
        self.check_latest_claim().await?;
        let nobodys = self.given_to_nobody().await?;
        let [behind, order, last] = part.order;
        let sql = UPDATE
            .replace("@waiting", &status.waiting)
            .replace("@done", &status.done)
            .replace("@status", &status.column)
            .replace("@table", &mapped.table)
            .replace("@id", &mapped.id)
            .replace("@behind", behind)
            .replace("@order", order)
            .replace("@last", last);
        let snapshots = [(1, part.seen), (2, part.but), (7, &nobodys.passed), (8, &nobodys.to)];
        let sql = fitted(self.entries.sql(&sql), &snapshots);
        let [seen, but, passed, to] = snapshots.map(|(_, snapshot)| snapshot.to_sql());
        let xid = part.behind.xid.to_string();
        let params: [Param<'_>; 9] = [
            (&seen, Type::TEXT),
            (&but, Type::TEXT),
            (&part.behind.id, Type::INT8),
            (&part.through, Type::INT8),
            (&xid, Type::TEXT),
            (&BATCH, Type::INT8),
            (&passed, Type::TEXT),
            (&to, Type::TEXT),
            (&nobodys.through, Type::INT8),
        ];
        let client = self.keeper.client().await?;
        // Sent at once. A relay that begins looks through the whole table, where nearly all is done already.
        let all = async {
            let updated = client.query_typed_one(&sql, &params);
            tokio::try_join!(client.batch_execute(BEGIN), updated, client.batch_execute("COMMIT"))
        };
        let ((), row, ()) = client.limit().for_many_rows().within(KEEPING, all).await?;
        let due: i64 = row.try_get(0).map_err(store_error(KEEPING))?;
        let id: Option<i64> = row.try_get(1).map_err(store_error(KEEPING))?;
        let xid: Option<Eight> = row.try_get(2).map_err(store_error(KEEPING))?;
        let latest = id.zip(xid).map(|(id, xid)| Row { id, xid: xid.0.cast_unsigned() });
        Ok((latest, due >= BATCH))
    }
}
