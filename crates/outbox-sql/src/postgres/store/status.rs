//! Keeping the status of a mapped table for those who look at it: behind all that is published, many rows at once.

use outbox::StoreError;
use tokio_postgres::types::Type;

use super::Inner;
use crate::postgres::{
    failure::store_error,
    position::{Reading, Snapshot, Standing, fitted},
    source::Param,
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
}

/// What to update: of what `$1` sees and `$2` does not, above the id `$3` up to `$4`, no transaction below `$5`; `@…` are the
/// table's own.
const UPDATE: &str = "WITH due AS MATERIALIZED (SELECT e.id FROM outbox.entries AS e
            WHERE pg_visible_in_snapshot(e.xid, $1::text::pg_snapshot) AND NOT pg_visible_in_snapshot(e.xid, $2::text::pg_snapshot)
                AND e.id > $3 AND e.id <= $4 AND e.xid >= $5::text::xid8 AND coalesce(e.status, @waiting) = @waiting
            ORDER BY @order LIMIT $6),
        updated AS (UPDATE @table AS u SET @status = @done FROM due
            WHERE u.@id = due.id AND coalesce(u.@status::text, @waiting) = @waiting RETURNING u.@id AS id)
    SELECT (SELECT count(*) FROM due), (SELECT max(d.id)::bigint FROM due AS d), (SELECT count(*) FROM updated)";

/// A part of the rows.
struct Part<'a> {
    seen: &'a Snapshot,
    but: &'a Snapshot,
    above: i64,
    through: i64,
    /// By their transactions, from this one on; else by their ids.
    from: Option<u64>,
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
        let part = Part { seen: &to, but: &passed.passed, above, through: last, from: None };
        let (highest, is_full) = self.update(&part).await?;
        let through = if is_full { highest.unwrap_or(last) } else { last };
        progress.within = Some((to, through));
        Ok(is_full)
    }

    /// All that `passed` sees and `kept` does not.
    async fn up_to(&self, progress: &mut Progress, kept: Snapshot, passed: &Snapshot) -> Result<bool, StoreError> {
        // What was kept of a range that was read to its end meanwhile is not looked at again.
        let within = progress.within.as_ref().filter(|(to, _)| to == passed).map(|(_, through)| *through);
        let first = kept.first_unseen().max(1);
        let part = Part {
            seen: passed,
            but: &kept,
            above: within.unwrap_or(i64::MIN),
            through: i64::MAX,
            from: within.is_none().then_some(first),
        };
        let (highest, is_full) = self.update(&part).await?;
        match (is_full, within.zip(highest)) {
            (true, Some((_, highest))) => progress.within = Some((passed.clone(), highest)),
            (true, None) => {}
            (false, _) => *progress = Progress { kept: Some(passed.clone()), within: None },
        }
        Ok(is_full)
    }

    /// Gives the highest id that was due, and whether there may be more.
    async fn update(&self, part: &Part<'_>) -> Result<(Option<i64>, bool), StoreError> {
        let Some((mapped, status)) = self.entries.mapped().and_then(|mapped| Some((mapped, mapped.status.as_ref()?)))
        else {
            return Ok((None, false));
        };
        self.check_latest_claim().await?;
        let order = if part.from.is_some() { "e.xid, e.id" } else { "e.id" };
        let sql = UPDATE
            .replace("@waiting", &status.waiting)
            .replace("@done", &status.done)
            .replace("@status", &status.column)
            .replace("@table", &mapped.table)
            .replace("@id", &mapped.id)
            .replace("@order", order);
        let sql = fitted(self.entries.sql(&sql), &[(1, part.seen), (2, part.but)]);
        let (seen, but) = (part.seen.to_sql(), part.but.to_sql());
        let from = part.from.unwrap_or(1).to_string();
        let params: [Param<'_>; 6] = [
            (&seen, Type::TEXT),
            (&but, Type::TEXT),
            (&part.above, Type::INT8),
            (&part.through, Type::INT8),
            (&from, Type::TEXT),
            (&BATCH, Type::INT8),
        ];
        let client = self.keeper.client().await?;
        // Sent at once. A relay that begins looks through the whole table, where nearly all is done already.
        let all = async {
            let updated = client.query_typed_one(&sql, &params);
            tokio::try_join!(client.batch_execute(BEGIN), updated, client.batch_execute("COMMIT"))
        };
        let ((), row, ()) = client.limit().for_many_rows().within(KEEPING, all).await?;
        let due: i64 = row.try_get(0).map_err(store_error(KEEPING))?;
        Ok((row.try_get(1).map_err(store_error(KEEPING))?, due >= BATCH))
    }
}
