//! Where a route starts.

use std::time::Duration;

use jiff::Timestamp;
use outbox::{Position, Start, StoreError};
use tokio_postgres::types::Type;

use super::Inner;
use crate::postgres::{
    decode::to_micros,
    failure::store_error,
    position::{LogPlace, Reading, Row, Snapshot, Standing, fitted},
    source::{Look, Param, Using, newest},
};

const LOOKING: &str = "looking for a route's start";
/// How far writers' clocks may go backwards between two entries without a start by time missing one.
const CLOCK_SLACK: Duration = Duration::from_secs(60 * 60);

/// The position at which a route starts, once all that it leaves behind is flushed.
///
/// `now` is a snapshot: what is in progress still comes. A time is a range from the beginning, of what can be seen now, from
/// the first id on whose entry was recorded then; what commits later comes whenever it was recorded, for it may belong
/// between others of its key.
pub(in crate::postgres) async fn position(
    store: &Inner,
    using: &mut Using<'_>,
    start: Start,
) -> Result<Position, StoreError> {
    if start == Start::Beginning {
        return Ok(Standing::BEGINNING.position());
    }
    let beginning = Standing::BEGINNING;
    let look = Look::at(store, using, &beginning).await?;
    let standing = at(using, start, look.to.clone(), look.checked.log()).await?;
    look.settle(using).await?;
    Ok(standing.position())
}

/// The same for a snapshot that is taken already.
async fn at(using: &Using<'_>, start: Start, now: Snapshot, log: LogPlace) -> Result<Standing, StoreError> {
    // Transactions without an entry do not count: their numbers may be given anew on a standby that takes over.
    let Some(latest) = newest(using, &now).await? else { return Ok(Standing::BEGINNING) };
    let now = now.below(latest.saturating_add(1));
    match start {
        Start::Beginning => Ok(Standing::BEGINNING),
        Start::Now => Ok(Standing::at_rest(now, log)),
        Start::Time(time) => match first_since(using, &now, time).await? {
            Some(first) => {
                let last = Some(Row { id: first.saturating_sub(1), xid: 0 });
                let reading = Reading::Range { to: now, last, then: None };
                Ok(Standing { passed: Snapshot::EMPTY, reading, log })
            }
            None => Ok(Standing::at_rest(now, log)),
        },
    }
}

/// The lowest id, of what `seen` sees, recorded at `time` or later. Ids and recorded times rise together, except where a clock
/// was set back or a writer said another time: so the search by halves aims at an hour before, and looks at each entry from
/// there.
async fn first_since(using: &Using<'_>, seen: &Snapshot, time: Timestamp) -> Result<Option<i64>, StoreError> {
    let aim = to_micros(time.checked_sub(CLOCK_SLACK).unwrap_or(Timestamp::MIN));
    let single = async |sql: &str, params: &[Param<'_>]| {
        let row = using.within(LOOKING, using.client().query_typed_opt(&using.sql(sql), params)).await?;
        row.map(|row| row.try_get::<_, Option<i64>>(0)).transpose().map(Option::flatten).map_err(store_error(LOOKING))
    };
    // Every entry up to `low` may be passed over; the first one sought is above it.
    let mut low = single("SELECT min(e.id)::bigint FROM outbox.entries AS e", &[]).await?.unwrap_or(1) - 1;
    let mut high = single("SELECT max(e.id)::bigint FROM outbox.entries AS e", &[]).await?.unwrap_or(0);
    while low < high {
        let middle = low + (high - low + 1) / 2;
        let params: [Param<'_>; 3] = [(&middle, Type::INT8), (&high, Type::INT8), (&aim, Type::INT8)];
        let early = single(
            "SELECT e.id::bigint FROM (SELECT e.id, e.recorded_at FROM outbox.entries AS e WHERE e.id >= $1 AND e.id <= $2 \
             AND isfinite(e.recorded_at) ORDER BY e.id LIMIT 1) AS e \
             WHERE e.recorded_at < timestamptz '2000-01-01 00:00:00Z' + $3 * interval '1 microsecond'",
            &params,
        );
        match early.await? {
            Some(id) => low = id,
            None => high = middle - 1,
        }
    }
    // A time between two microseconds starts with the next.
    let exact = to_micros(time) + i64::from(time.subsec_nanosecond() % 1_000 > 0);
    let sql = fitted(
        "SELECT e.id::bigint FROM outbox.entries AS e WHERE e.id > $1 \
         AND e.recorded_at >= timestamptz '2000-01-01 00:00:00Z' + $2 * interval '1 microsecond' \
         AND pg_visible_in_snapshot(e.xid, $3::text::pg_snapshot) ORDER BY e.id LIMIT 1",
        &[(3, seen)],
    );
    let seen = seen.to_sql();
    let params: [Param<'_>; 3] = [(&low, Type::INT8), (&exact, Type::INT8), (&seen, Type::TEXT)];
    single(&sql, &params).await
}
