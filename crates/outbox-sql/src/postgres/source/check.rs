//! What is checked with every read, in its own snapshot or an earlier one: whose database this is, that it takes writes, and
//! that its history goes on.

use std::sync::LazyLock;

use outbox::{CommitId, ErrorKind, StoreError, store::Claim};
use tokio_postgres::types::Type;

use super::{
    session::{Param, Using},
    values::{Eight, Sixteen},
};
use crate::{
    decode::NO_COMMIT,
    postgres::{
        failure::store_error,
        history::{Life, Seen, changed, missing_row},
        position::{LogPlace, Row, Standing},
        schema,
        store::Inner,
    },
};

const CHECKING: &str = "checking the database that is read";

/// What [`Checked::read`] reads, of `outbox.meta` as `m`; `$1` and `$2` are the row that the reader stands at, `$3` and `$4` the
/// one of the highest id that was read.
pub(super) const COLUMNS: &str = "m.layout, m.store_id, m.producer, m.bookkeeping, m.claim_epoch, m.claim_nonce, \
    pg_is_in_recovery(), pg_postmaster_start_time()::text, \
    CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_insert_lsn()) END, \
    CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END, \
    pg_last_wal_replay_lsn(), pg_snapshot_xmax(pg_current_snapshot()), \
    (SELECT e.commit_id FROM outbox.entries AS e WHERE e.id = $1 AND e.xid = $2::text::xid8 LIMIT 1), \
    (SELECT e.commit_id FROM outbox.entries AS e WHERE e.id = $3 AND e.xid = $4::text::xid8 LIMIT 1)";

/// How many columns these are.
pub(super) const WIDTH: usize = 14;

/// Rows that are not there.
pub(in crate::postgres) struct Lost {
    /// Gone though nobody removed them.
    pub(in crate::postgres) missing: Vec<Seen>,
    /// Removed by retention.
    pub(in crate::postgres) purged: Vec<Seen>,
}

/// Whether row `s` was removed by retention.
const EMPTIED: &str =
    "EXISTS (SELECT FROM outbox.leaves AS l WHERE l.low <= s.id AND s.id < l.high AND l.emptied_at IS NOT NULL)
            OR NOT EXISTS (SELECT FROM outbox.leaves AS l WHERE l.low <= s.id AND s.id < l.high)
                AND s.id < (SELECT max(l.high) FROM outbox.leaves AS l)
                AND NOT EXISTS (SELECT FROM outbox.entries AS e WHERE e.id = s.id)
                AND NOT EXISTS (SELECT FROM outbox.entries_default AS e WHERE e.id <= s.id)";
/// The same of a mapped table, of which its owner removes what he likes: only another row in its place says something.
const REMOVED: &str = "NOT EXISTS (SELECT FROM outbox.entries AS e WHERE e.id = s.id)";

/// Which of `seen` are not there. A row of a leaf that was emptied, or dropped since, was removed by retention; so was one of
/// the default leaf below a leaf, if that holds nothing as old.
pub(in crate::postgres) async fn lost(using: &Using<'_>, seen: &[Seen]) -> Result<Lost, StoreError> {
    let sql = format!(
        "SELECT s.number, coalesce({}, false)
        FROM unnest($1::bigint[], $2::text[]::xid8[], $3::text[]::uuid[]) WITH ORDINALITY AS s (id, xid, commit_id, number),
        LATERAL (SELECT count(*) AS there FROM outbox.entries AS e
            WHERE e.id = s.id AND e.xid = s.xid AND (e.commit_id = s.commit_id OR s.commit_id = $4::text::uuid)) AS found
        WHERE found.there = 0 ORDER BY s.number",
        if using.entries.is_mapped() { REMOVED } else { EMPTIED }
    );
    let ids: Vec<i64> = seen.iter().map(|seen| seen.row.id).collect();
    let xids: Vec<String> = seen.iter().map(|seen| seen.row.xid.to_string()).collect();
    let commits: Vec<String> = seen.iter().map(|seen| seen.commit.to_string()).collect();
    let unknown = NO_COMMIT.to_string();
    let params: [Param<'_>; 4] =
        [(&ids, Type::INT8_ARRAY), (&xids, Type::TEXT_ARRAY), (&commits, Type::TEXT_ARRAY), (&unknown, Type::TEXT)];
    let rows = using.within(CHECKING, using.client().query_typed(&using.sql(&sql), &params)).await?;
    let mut lost = Lost { missing: Vec::new(), purged: Vec::new() };
    for row in rows {
        let number: i64 = row.try_get(0).map_err(store_error(CHECKING))?;
        let is_purged: bool = row.try_get(1).map_err(store_error(CHECKING))?;
        let index = usize::try_from(number).unwrap_or(0).saturating_sub(1);
        if is_purged {
            lost.purged.extend(seen.get(index));
        } else {
            lost.missing.extend(seen.get(index));
        }
    }
    Ok(lost)
}

/// The check by itself.
static CHECK: LazyLock<String> = LazyLock::new(|| format!("SELECT {COLUMNS} FROM outbox.meta AS m"));

/// What was found.
pub(in crate::postgres) struct Checked {
    pub(super) producer: String,
    life: Life,
    xmax: u64,
    anchor: Option<CommitId>,
    highest: Option<CommitId>,
}

/// Checks, in a transaction that stays open.
///
/// # Errors
/// As [`Checked::read`] and [`Checked::confirm`].
pub(super) async fn check(store: &Inner, using: &mut Using<'_>, standing: &Standing) -> Result<Checked, StoreError> {
    let known = Known::new(store, standing);
    let rows = known.rows();
    let params = rows.params();
    let sql = using.sql(&CHECK);
    let found = using.open(CHECKING, async |client| client.query_typed_opt(&sql, &params).await).await?;
    let checked = Checked::read(store, found.as_ref())?;
    checked.confirm(store, using, &known, standing).await?;
    Ok(checked)
}

impl Checked {
    /// Reads [`COLUMNS`].
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] if this version cannot work with the tables, [`ErrorKind::HistoryChanged`] if they are of
    /// another store, [`ErrorKind::Fenced`] or [`ErrorKind::Ownership`] if another claim was made since,
    /// [`ErrorKind::Unavailable`] if the server takes no writes, as while another one is about to take over.
    pub(super) fn read(store: &Inner, found: Option<&tokio_postgres::Row>) -> Result<Self, StoreError> {
        let Some(row) = found else {
            let message = "this database has no identity yet: run `outbox init`";
            return Err(StoreError::new(ErrorKind::Incompatible, message));
        };
        let of = |error| store_error(CHECKING)(error);
        schema::known_layout(row.try_get(0).map_err(of)?)?;
        store.check_store(row.try_get(1).map_err(of)?)?;
        let bookkeeping: Option<String> = row.try_get(3).map_err(of)?;
        let (epoch, nonce): (i64, Option<String>) = (row.try_get(4).map_err(of)?, row.try_get(5).map_err(of)?);
        let claim = bookkeeping.map(|bookkeeping| Claim {
            bookkeeping,
            epoch: epoch.unsigned_abs(),
            nonce: nonce.unwrap_or_default(),
        });
        store.check_claim(claim.as_ref())?;
        if row.try_get(6).map_err(of)? {
            let message = format!(
                "the server of {} is a standby, and takes no writes: what it shows may still be taken back; name the primary",
                store.database()
            );
            return Err(StoreError::new(ErrorKind::Unavailable, message));
        }
        let timeline = row.try_get::<_, Option<&str>>(8).map_err(of)?.and_then(|file| file.get(..8));
        let number =
            |column| Ok(row.try_get::<_, Option<Eight>>(column).map_err(of)?.map(|eight| eight.0.cast_unsigned()));
        let life = Life {
            started: row.try_get(7).map_err(of)?,
            timeline: timeline.and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(0),
            recovered: number(10)?,
            written: number(9)?.unwrap_or(0),
        };
        let commit = |column| Ok(row.try_get::<_, Option<Sixteen>>(column).map_err(of)?.map(|uuid| CommitId(uuid.0)));
        Ok(Self {
            producer: row.try_get(2).map_err(of)?,
            life,
            xmax: number(11)?.unwrap_or(0),
            anchor: commit(12)?,
            highest: commit(13)?,
        })
    }

    /// Where the log stood, and so all that is seen now was written before.
    pub(in crate::postgres) fn log(&self) -> LogPlace {
        LogPlace { timeline: self.life.timeline, lsn: self.life.written }
    }

    /// Whether `standing` knows of transactions to which this server has given no number.
    pub(in crate::postgres) fn has_not_given(&self, standing: &Standing) -> bool {
        standing.xmax() > self.xmax
    }

    /// Whether nothing is read behind `standing`, whatever rows are there.
    pub(in crate::postgres) fn refuses(&self, standing: &Standing, database: &str) -> bool {
        self.has_not_given(standing) || self.life.check(standing.log, database).is_err()
    }

    /// Whether the history goes on in which `standing` was come by.
    ///
    /// # Errors
    /// [`ErrorKind::HistoryChanged`] if not.
    pub(super) async fn confirm(
        &self,
        store: &Inner,
        using: &Using<'_>,
        known: &Known,
        standing: &Standing,
    ) -> Result<(), StoreError> {
        self.life.check(standing.log, &store.database())?;
        if self.has_not_given(standing) {
            let found = format!(
                "has given numbers below {} to transactions, but what was read before reaches to {}: it is an older copy",
                self.xmax,
                standing.xmax()
            );
            return Err(changed(&store.database(), &found));
        }
        let mut wrong = Vec::new();
        if let Some(row) = known.anchor
            && (self.anchor.is_none() || known.anchor_commit.is_some_and(|commit| self.anchor != Some(commit)))
        {
            wrong.push(Seen { row, commit: known.anchor_commit.unwrap_or(NO_COMMIT) });
        }
        wrong.extend(known.highest.filter(|seen| self.highest != Some(seen.commit)));
        let remembered = store.history().to_check_in(&self.life);
        if !wrong.is_empty() || !remembered.is_empty() {
            let all: Vec<_> = wrong.into_iter().chain(remembered).collect();
            let lost = lost(using, &all).await?;
            if let Some(seen) = lost.missing.first() {
                return Err(missing_row(&store.database(), seen.row));
            }
            store.history().forget(&lost.purged);
        }
        store.history().found_in(self.life.clone());
        Ok(())
    }
}

/// What a read has to find, taken before its snapshot, which has to show all of it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The row that is read behind.
    anchor: Option<Row>,
    anchor_commit: Option<CommitId>,
    highest: Option<Seen>,
}

/// The rows of [`Known`] as parameters.
pub(super) struct Rows {
    anchor: (Option<i64>, Option<String>),
    highest: (Option<i64>, Option<String>),
}

impl Known {
    /// For a read from `standing`.
    pub(super) fn new(store: &Inner, standing: &Standing) -> Self {
        let history = store.history();
        let anchor = standing.last().filter(|row| row.xid > 0);
        Self { anchor, anchor_commit: anchor.and_then(|row| history.commit_of(row)), highest: history.highest() }
    }

    pub(super) fn rows(&self) -> Rows {
        let parts = |row: Option<Row>| (row.map(|row| row.id), row.map(|row| row.xid.to_string()));
        Rows { anchor: parts(self.anchor), highest: parts(self.highest.map(|seen| seen.row)) }
    }
}

impl Rows {
    /// `$1` to `$4`.
    pub(super) fn params(&self) -> [Param<'_>; 4] {
        [
            (&self.anchor.0, Type::INT8),
            (&self.anchor.1, Type::TEXT),
            (&self.highest.0, Type::INT8),
            (&self.highest.1, Type::TEXT),
        ]
    }
}
