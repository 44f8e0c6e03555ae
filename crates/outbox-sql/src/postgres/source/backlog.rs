//! What lies behind a position: counted as far as that is cheap.

use outbox::{StoreError, source::Backlog};
use tokio_postgres::types::Type;

use super::{
    session::{Param, Using},
    unseen::bounds,
    values::Eight,
};
use crate::postgres::{
    decode::from_micros,
    failure::store_error,
    position::{Reading, Standing, fitted},
    wal::UNORDERED,
};

const MEASURING: &str = "measuring the backlog";
/// Entries that are counted; more are estimated by their ids, from one leap of these to the next (`leaves.sql`).
const COUNTED: i64 = 10_000;

/// Two parts: what is left of the range, above `$1`, of what `$2` sees and `$3` does not; and what `$4` and `$5` have not
/// seen: what was running by its first and, with `$7`, last numbers.
const SQL: &str = "WITH behind (id) AS MATERIALIZED (
        (SELECT e.id FROM outbox.entries AS e WHERE e.id > $1 AND pg_visible_in_snapshot(e.xid, $2::text::pg_snapshot)
            AND NOT pg_visible_in_snapshot(e.xid, $3::text::pg_snapshot) ORDER BY e.id LIMIT $6)
        UNION ALL
        (SELECT e.id FROM outbox.entries AS e WHERE e.xid >= $4::text::xid8 ORDER BY e.xid, e.id LIMIT $6)
        UNION ALL
        (SELECT o.id FROM unnest($5::text[]::xid8[], $7::text[]::xid8[]) AS r (first, last), LATERAL (SELECT e.id FROM outbox.entries AS e
            WHERE e.xid >= r.first AND e.xid <= r.last ORDER BY e.xid, e.id LIMIT $6) AS o)
    ), found AS (SELECT count(*) AS rows, min(b.id) AS first FROM behind AS b)
    SELECT f.rows, (SELECT sum(p.ids)::bigint FROM generate_series(f.first::bigint >> 40,
                least((SELECT max(e.id)::bigint FROM outbox.entries AS e) >> 40, (f.first::bigint >> 40) + 100)) AS s (part),
            LATERAL (SELECT max(e.id)::bigint - min(e.id)::bigint + 1 FROM outbox.entries AS e
                WHERE e.id >= greatest(f.first::bigint, s.part << 40) AND e.id <= (s.part << 40) + 1099511627775) AS p (ids)),
        (SELECT e.recorded_at FROM outbox.entries AS e WHERE e.id = f.first)
    FROM found AS f";

pub(super) async fn behind(using: &mut Using<'_>, standing: &Standing) -> Result<Backlog, StoreError> {
    let (to, above) = match &standing.reading {
        Reading::Range { to, last, .. } => (to.clone(), last.map_or(i64::MIN, |last| last.id)),
        // What is read in the log stands within its last transaction until another one comes.
        Reading::Log { inside: Some((last, number)) } if *number < UNORDERED => {
            (standing.passed.and(last.xid), last.id)
        }
        Reading::Rest | Reading::Log { .. } => (standing.passed.clone(), i64::MAX),
    };
    let (seen, passed, xmax) = (to.to_sql(), standing.passed.to_sql(), to.xmax().to_string());
    let (first, last) = bounds(to.running());
    let params: [Param<'_>; 7] = [
        (&above, Type::INT8),
        (&seen, Type::TEXT),
        (&passed, Type::TEXT),
        (&xmax, Type::TEXT),
        (&first, Type::TEXT_ARRAY),
        (&COUNTED, Type::INT8),
        (&last, Type::TEXT_ARRAY),
    ];
    let sql = fitted(using.sql(SQL), &[(2, &to), (3, &standing.passed)]);
    let row = using.open(MEASURING, async |client| client.query_typed_one(&sql, &params).await).await?;
    using.close(MEASURING).await?;
    let number = |column| row.try_get::<_, Option<i64>>(column).map_err(store_error(MEASURING));
    let (rows, estimated) = (number(0)?.unwrap_or(0), number(1)?.unwrap_or(0));
    let oldest = row.try_get::<_, Option<Eight>>(2).map_err(store_error(MEASURING))?;
    let exact = rows < COUNTED;
    Ok(Backlog {
        entries: if exact { rows } else { estimated.max(rows) }.unsigned_abs(),
        exact,
        oldest: oldest.and_then(|micros| from_micros(micros.0)),
    })
}
