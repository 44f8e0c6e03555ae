//! Retention: emptying leaves that every route is past.

use outbox::{
    ErrorKind, StoreError,
    store::{Purged, Retention},
};
use tokio_postgres::types::Type;

use super::{Inner, agreement::Unread};
use crate::postgres::{
    connection::query_read_committed,
    decode::to_micros,
    failure::store_error,
    position::{Row, Standing, fitted},
    source::Param,
};

const PURGING: &str = "purging published entries";
/// Rows of a mapped table that are deleted at once.
const BATCH: i64 = 1_000;

impl Inner {
    /// Empties the oldest leaf whose entries `passed` is past, below the one that proves the history: the last one read, or
    /// the highest. A leaf that a writer has open is passed over until the next time.
    pub(super) async fn purge(&self, passed: &Standing, retention: Retention) -> Result<Purged, StoreError> {
        const SQL: &str = "SELECT p.entries, p.more FROM outbox.empty_leaf(ARRAY[$1::text::pg_snapshot], $2, \
            coalesce(timestamptz '2000-01-01 00:00:00Z' + $3::bigint * interval '1 microsecond', 'infinity')) AS p";
        let (newest, before) = match retention {
            Retention::Off => return Ok(Purged::default()),
            Retention::Before(time) => (0, Some(to_micros(time))),
            Retention::Newest(newest) => (i64::try_from(newest).unwrap_or(i64::MAX), None),
        };
        self.check_latest_claim().await?;
        if self.entries.is_mapped() {
            return self.purge_mapped(passed, before, newest).await;
        }
        let Some(proof) = self.proof(passed).await? else { return Ok(Purged::default()) };
        let Some(keep) = self.kept_from(proof, newest).await? else { return Ok(Purged::default()) };
        // In a range, all up to the proof is visible in where the range goes to; otherwise in what was passed.
        let Unread { passed: at_rest, to, .. } = Unread::of(passed);
        let seen = if passed.last().is_some() { to } else { at_rest };
        // What it leaves out of a wide one for now, it removes once that is narrower.
        let seen = seen.narrowed().to_sql();
        let params: [Param<'_>; 3] = [(&seen, Type::TEXT), (&keep, Type::INT8), (&before, Type::INT8)];
        let client = self.leaves.client().await?;
        let limit = client.limit().for_many_rows();
        let row = limit.within(PURGING, query_read_committed(&client, SQL, &params)).await?;
        let entries: i64 = row.try_get(0).map_err(store_error(PURGING))?;
        let more = row.try_get(1).map_err(store_error(PURGING))?;
        Ok(Purged { entries: entries.unsigned_abs(), more })
    }

    /// The entry that proves this history to who stands at `passed`, and stays: the one it stands at, or the highest that it
    /// is past.
    async fn proof(&self, passed: &Standing) -> Result<Option<i64>, StoreError> {
        const SQL: &str = "SELECT e.id::bigint FROM outbox.entries AS e \
            WHERE pg_visible_in_snapshot(e.xid, $1::text::pg_snapshot) ORDER BY e.id DESC LIMIT 1";
        if let Some(last) = passed.last() {
            return Ok(Some(last.id));
        }
        let known = self.history().highest_of(|row: Row| passed.is_past(row));
        if let Some(seen) = known {
            return Ok(Some(seen.row.id));
        }
        let sql = fitted(self.entries.sql(SQL), &[(1, &passed.passed)]);
        let seen = passed.passed.to_sql();
        let client = self.keeper.client().await?;
        let row = client.limit().within(PURGING, client.query_typed_opt(&sql, &[(&seen, Type::TEXT)])).await?;
        row.map(|row| row.try_get(0)).transpose().map_err(store_error(PURGING))
    }

    /// The lowest id to be kept: of those up to `proof`, so many; `None` if there are no more, or no leaf lies below.
    async fn kept_from(&self, proof: i64, newest: i64) -> Result<Option<i64>, StoreError> {
        const SQL: &str = "SELECT k.id FROM (SELECT e.id FROM outbox.entries AS e WHERE e.id <= $1 \
            ORDER BY e.id DESC OFFSET greatest($2, 1) - 1 LIMIT 1) AS k \
            WHERE k.id >= (SELECT min(l.high) FROM outbox.leaves AS l WHERE l.emptied_at IS NULL) \
            OR EXISTS (SELECT FROM outbox.entries_default AS e WHERE e.id < k.id)";
        let client = self.keeper.client().await?;
        let params: [Param<'_>; 2] = [(&proof, Type::INT8), (&newest, Type::INT8)];
        let row = client.limit().within(PURGING, client.query_typed_opt(SQL, &params)).await?;
        row.map(|row| row.try_get(0)).transpose().map_err(store_error(PURGING))
    }

    /// The same in a mapped table, which has no leaves: its oldest rows are deleted, a batch of them. What no route was to
    /// publish is its owner's.
    async fn purge_mapped(&self, passed: &Standing, before: Option<i64>, newest: i64) -> Result<Purged, StoreError> {
        let Some(mapped) = self.entries.mapped() else { return Ok(Purged::default()) };
        if before.is_some() && !mapped.has_time {
            let message = "store.retention: the mapped table has no time by which rows are old: name its column by \
                 mapping.time, or keep the newest";
            return Err(StoreError::new(ErrorKind::Invalid, message));
        }
        let Some(proof) = self.proof(passed).await? else { return Ok(Purged::default()) };
        let Unread { passed: at_rest, to, through } = Unread::of(passed);
        let nobodys = self.given_to_nobody().await?;
        let sql = format!(
            "WITH kept AS (SELECT e.id FROM outbox.entries AS e WHERE e.id <= $1 ORDER BY e.id DESC \
                OFFSET greatest($2, 1) - 1 LIMIT 1), \
             due AS MATERIALIZED (SELECT e.id FROM outbox.entries AS e WHERE e.id < (SELECT k.id FROM kept AS k) \
                AND (pg_visible_in_snapshot(e.xid, $3::text::pg_snapshot) \
                    OR e.id <= $5 AND pg_visible_in_snapshot(e.xid, $4::text::pg_snapshot)) \
                AND NOT pg_visible_in_snapshot(e.xid, $7::text::pg_snapshot) \
                AND NOT (e.id <= $9 AND pg_visible_in_snapshot(e.xid, $8::text::pg_snapshot)) \
                AND e.recorded_at < coalesce(timestamptz '2000-01-01 00:00:00Z' + $6::bigint * interval '1 microsecond', \
                    'infinity') ORDER BY e.id LIMIT {BATCH}), \
             gone AS (DELETE FROM {} AS d USING due WHERE d.{} = due.id RETURNING 1) SELECT count(*) FROM gone",
            mapped.table, mapped.id
        );
        let snapshots = [(3, &at_rest), (4, &to), (7, &nobodys.passed), (8, &nobodys.to)];
        let sql = fitted(self.entries.sql(&sql), &snapshots);
        let [at_rest, to, behind_all, in_range] = snapshots.map(|(_, snapshot)| snapshot.to_sql());
        let params: [Param<'_>; 9] = [
            (&proof, Type::INT8),
            (&newest, Type::INT8),
            (&at_rest, Type::TEXT),
            (&to, Type::TEXT),
            (&through, Type::INT8),
            (&before, Type::INT8),
            (&behind_all, Type::TEXT),
            (&in_range, Type::TEXT),
            (&nobodys.through, Type::INT8),
        ];
        let client = self.keeper.client().await?;
        let row = client.limit().within(PURGING, client.query_typed_one(&sql, &params)).await?;
        let entries: i64 = row.try_get(0).map_err(store_error(PURGING))?;
        Ok(Purged { entries: entries.unsigned_abs(), more: entries >= BATCH })
    }
}
