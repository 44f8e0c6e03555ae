//! What a snapshot has not seen yet, found by the index on (xid, id).
//!
//! Its plans are pinned by settings of the transaction, and by how the statements are written: what has to use an index is
//! ordered by it and limited, and what must not use the other one is hidden in a function.

use std::{ops::Range, sync::LazyLock};

use tokio_postgres::types::Type;

use super::{check, session::Param};
use crate::postgres::position::Snapshot;

/// So many unseen rows at most are listed; more are a backlog.
pub(super) const LISTED: i64 = 4_096;

/// The unseen rows `columns`, of the entries as `e`, by `order`: `$5`, and from `$6` to `$10` what was running, are what was
/// seen, of `$7` only what that snapshot sees, above the id `$8`, at most `$9` of the newer ones and of each range that was
/// running.
fn unseen(columns: &str, with_running: bool) -> String {
    let of = "(($7::text IS NULL OR pg_visible_in_snapshot(e.xid, $7::text::pg_snapshot)) AND e.id > $8)";
    let newer = format!(
        "(SELECT {columns} FROM outbox.entries AS e WHERE e.xid >= $5::text::xid8 AND {of} ORDER BY e.xid, e.id LIMIT $9)"
    );
    // Asking for each in turn keeps the plan from going through the whole index for a few of them. Equality would make the
    // order one by id alone, which the primary key has as well.
    let running = format!(
        " UNION ALL (SELECT o.* FROM unnest($6::text[]::xid8[], $10::text[]::xid8[]) AS r (first, last), LATERAL (SELECT {columns} FROM outbox.entries AS e \
         WHERE e.xid >= r.first AND e.xid <= r.last AND {of} ORDER BY e.xid, e.id LIMIT $9) AS o)"
    );
    // The type of a parameter that is not used could not be told.
    let none = " UNION ALL (SELECT NULL, NULL WHERE $6::text[] IS NULL AND $10::text[] IS NULL)";
    format!("{newer}{}", if with_running { &running } else { none })
}

/// Looks what is unseen, and checks.
fn look(with_running: bool) -> String {
    let unseen = unseen("e.id, e.xid", with_running);
    let columns = check::COLUMNS;
    format!(
        "WITH unseen (id, xid) AS MATERIALIZED ({unseen}), \
         found AS (SELECT count(*) AS rows, min(u.id)::bigint AS first, max(u.id)::bigint AS last, max(u.xid) AS newest FROM unseen AS u) \
         SELECT {columns}, f.rows, f.first, f.last, f.newest, pg_current_snapshot()::text, \
         CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END, \
         (1000 * extract(epoch FROM current_setting('wal_writer_delay')::interval))::integer \
         FROM outbox.meta AS m, found AS f"
    )
}

/// Measures what is unseen: how many rows are listed, from where to where, and the highest id of all there are.
fn measure(with_running: bool) -> String {
    let unseen = unseen("e.id, e.xid", with_running);
    format!(
        "SELECT count(u.id), min(u.id)::bigint, max(u.id)::bigint, (SELECT max(e.id)::bigint FROM outbox.entries AS e) \
         FROM ({unseen}) AS u (id, xid) WHERE coalesce($1::text, $2::text, $3::text, $4::text) IS NULL"
    )
}

/// The ids of unseen rows, in order.
pub(super) fn ids(with_running: bool, limit: &str) -> String {
    format!(
        "SELECT u.id FROM ({}) AS u (id, xid) WHERE u.id IS NOT NULL ORDER BY u.id LIMIT {limit}",
        unseen("e.id, e.xid", with_running)
    )
}

static MEASURE: LazyLock<[String; 2]> = LazyLock::new(|| [measure(false), measure(true)]);

/// The statement that measures, for what was seen; `$1` to `$4` are NULL.
pub(super) fn measure_sql(seen: &Seen) -> &'static str {
    &MEASURE[usize::from(seen.has_running())]
}

static LOOK: LazyLock<[String; 2]> = LazyLock::new(|| [look(false), look(true)]);

/// The statement that looks, for what was seen.
pub(super) fn look_sql(seen: &Seen) -> &'static str {
    &LOOK[usize::from(seen.has_running())]
}

/// What was seen, and of what: `$5` to `$10`.
pub(super) struct Seen {
    xmax: String,
    running: (Vec<String>, Vec<String>),
    of: Option<String>,
    above: i64,
    most: i64,
}

impl Seen {
    /// By `passed`; of what `of` sees, or of all that is there, above an id.
    pub(super) fn by(passed: &Snapshot, of: Option<&Snapshot>, above: i64) -> Self {
        // What is running in both is not seen by either.
        let wanted = of.map(|of| passed.running_seen_by(of));
        Self {
            xmax: passed.xmax().to_string(),
            running: bounds(wanted.as_deref().unwrap_or(passed.running())),
            of: of.map(Snapshot::to_sql),
            above,
            most: LISTED,
        }
    }

    pub(super) fn has_running(&self) -> bool {
        !self.running.0.is_empty()
    }

    pub(super) fn params(&self) -> [Param<'_>; 6] {
        [
            (&self.xmax, Type::TEXT),
            (&self.running.0, Type::TEXT_ARRAY),
            (&self.of, Type::TEXT),
            (&self.above, Type::INT8),
            (&self.most, Type::INT8),
            (&self.running.1, Type::TEXT_ARRAY),
        ]
    }
}

/// The first and the last of each of `ranges`, as parameters.
pub(super) fn bounds(ranges: &[Range<u64>]) -> (Vec<String>, Vec<String>) {
    ranges.iter().map(|range| (range.start.to_string(), (range.end - 1).to_string())).unzip()
}
