//! Whether a store still holds what its bookkeeping has seen.

use outbox::{
    StoreError,
    store::{Agreement, Witness},
};
use tokio_postgres::types::Type;

use super::Inner;
use crate::postgres::{
    failure::store_error,
    history::Seen,
    position::{Reading, Snapshot, Standing, fitted, row_of},
    source::{Param, Using, lost},
};

const COMPARING: &str = "comparing the database with what was read before";
/// As many witnesses are looked for at once; all of one's routes' latest are among the first of them.
const WITNESSES: usize = 4_096;

impl Inner {
    /// Compares, and remembers the witnesses for the reads that follow, if they are found.
    ///
    /// All are looked for, not the latest alone: a standby that takes over too early may have the one and not the other. The
    /// last agreement is the latest before the first that is lost; a row that retention removed says nothing.
    pub(super) async fn agreement(&self, witnesses: &[Witness]) -> Result<Agreement, StoreError> {
        let mut seen = Vec::new();
        for witness in witnesses.iter().take(WITNESSES) {
            let standing = Standing::parse(&witness.position)?;
            let row = row_of(&witness.position).filter(|row| row.xid > 0);
            seen.extend(row.map(|row| (standing, witness, Seen { row, commit: witness.commit })));
        }
        seen.sort_by(|(one, ..), (other, ..)| other.order(one));
        let rows: Vec<_> = seen.iter().map(|(_, _, seen)| *seen).collect();
        let mut session = self.session().await;
        let using = session.begin().await?;
        let gone = lost(&using, &rows).await?;
        let is_found = |seen: &Seen| !gone.missing.contains(seen) && !gone.purged.contains(seen);
        let Some(first) = seen.iter().rposition(|(_, _, seen)| gone.missing.contains(seen)) else {
            let mut history = self.history();
            rows.iter().rev().filter(|seen| is_found(seen)).for_each(|seen| history.remember(*seen));
            return Ok(Agreement::Whole);
        };
        let agreed = seen[first..].iter().find(|(_, _, seen)| is_found(seen));
        let from = match agreed {
            Some((standing, _, seen)) => standing.after_loss(seen.row),
            None => Standing::BEGINNING,
        };
        let behind = Unread::of(&from).count(&using).await?;
        let agreed = agreed.map(|(_, witness, _)| witness.position.clone());
        Ok(Agreement::Lost { agreed, lost: seen[first].1.position.clone(), behind })
    }
}

/// What a position is not past, for a statement: neither what `passed` sees, nor of what `to` sees up to an id.
pub(super) struct Unread {
    pub(super) passed: Snapshot,
    pub(super) to: Snapshot,
    pub(super) through: i64,
}

impl Unread {
    pub(super) fn of(standing: &Standing) -> Self {
        let passed = standing.passed.clone();
        match &standing.reading {
            Reading::Rest | Reading::Log { .. } => Self { to: passed.clone(), passed, through: i64::MIN },
            Reading::Range { to, last, .. } => {
                Self { passed, to: to.clone(), through: last.map_or(i64::MIN, |last| last.id) }
            }
        }
    }

    async fn count(&self, using: &Using<'_>) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT count(*) FROM outbox.entries AS e \
            WHERE NOT pg_visible_in_snapshot(e.xid, $1::text::pg_snapshot) \
            AND NOT (e.id <= $3 AND pg_visible_in_snapshot(e.xid, $2::text::pg_snapshot))";
        let sql = fitted(using.sql(SQL), &[(1, &self.passed), (2, &self.to)]);
        let (passed, to) = (self.passed.to_sql(), self.to.to_sql());
        let params: [Param<'_>; 3] = [(&passed, Type::TEXT), (&to, Type::TEXT), (&self.through, Type::INT8)];
        let row = using.within_long(COMPARING, using.client().query_typed_one(&sql, &params)).await?;
        let count: i64 = row.try_get(0).map_err(store_error(COMPARING))?;
        Ok(count.unsigned_abs())
    }
}
