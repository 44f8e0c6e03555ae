//! Retention: emptying leaves that every route is past.

use outbox::{
    StoreError,
    store::{Purged, Retention},
};
use tokio_postgres::types::Type;

use super::{Inner, agreement::Unread};
use crate::postgres::{
    decode::to_micros,
    failure::store_error,
    position::{Row, Standing},
    source::Param,
};

const PURGING: &str = "purging published entries";

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
        let Some(proof) = self.proof(passed).await? else { return Ok(Purged::default()) };
        let Some(keep) = self.kept_from(proof, newest).await? else { return Ok(Purged::default()) };
        // In a range, all up to the proof is visible in where the range goes to; otherwise in what was passed.
        let Unread { passed: at_rest, to, .. } = Unread::of(passed);
        let seen = if passed.last().is_some() { to } else { at_rest };
        let params: [Param<'_>; 3] = [(&seen, Type::TEXT), (&keep, Type::INT8), (&before, Type::INT8)];
        let client = self.keeper.client().await?;
        let row = client.limit().within(PURGING, client.query_typed_one(SQL, &params)).await?;
        let entries: i64 = row.try_get(0).map_err(store_error(PURGING))?;
        let more = row.try_get(1).map_err(store_error(PURGING))?;
        Ok(Purged { entries: entries.unsigned_abs(), more })
    }

    /// The entry that proves this history to who stands at `passed`, and stays: the one it stands at, or the highest that it
    /// is past.
    async fn proof(&self, passed: &Standing) -> Result<Option<i64>, StoreError> {
        const SQL: &str = "SELECT e.id FROM outbox.entries AS e \
            WHERE pg_visible_in_snapshot(e.xid, $1::text::pg_snapshot) ORDER BY e.id DESC LIMIT 1";
        if let Some(last) = passed.last() {
            return Ok(Some(last.id));
        }
        let known = self.history().highest_of(|row: Row| passed.is_past(row));
        if let Some(seen) = known {
            return Ok(Some(seen.row.id));
        }
        let seen = passed.passed.to_sql();
        let client = self.keeper.client().await?;
        let row = client.limit().within(PURGING, client.query_typed_opt(SQL, &[(&seen, Type::TEXT)])).await?;
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
}
