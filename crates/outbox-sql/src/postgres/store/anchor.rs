//! Going on where the rows are there, and what the server counts its history by is not: its log, as behind a promotion or
//! `pg_upgrade`, or the numbers of its transactions, as where a dump was loaded.

use outbox::{Position, StoreError, store::Witness};
use tokio_postgres::types::Type;

use super::{Inner, agreement::Unread};
use crate::postgres::{
    failure::store_error,
    history::Seen,
    position::{LogPlace, Reading, Row, Standing, fitted, row_of},
    source::{self, Look, Param, Using, lost},
};

const ANCHORING: &str = "looking for where to go on";

impl Inner {
    /// A position of another source is none to be refused here.
    pub(super) async fn is_refused(&self, position: &Position) -> Result<bool, StoreError> {
        let Ok(standing) = Standing::parse(position) else { return Ok(false) };
        let mut session = self.session().await;
        let mut using = session.begin().await?;
        let look = Look::at(self, &mut using, &Standing::BEGINNING).await?;
        using.close(ANCHORING).await?;
        Ok(look.checked.refuses(&standing, &self.database()))
    }

    /// A place in the log that is not of this history is forgotten, no more: the rows tell. Numbers of transactions that this
    /// server has not given may mean others soon: then only ids count, from the first row that was not read. That may be
    /// behind rows that were lost, so the incarnation rises; which gives rows of another server numbers of this one.
    pub(super) async fn anchored(
        &self,
        positions: &[Position],
        witnesses: &[Witness],
    ) -> Result<Vec<Position>, StoreError> {
        let standings: Vec<_> = positions.iter().map(Standing::parse).collect::<Result<_, _>>()?;
        let mut session = self.session().await;
        let mut using = session.begin().await?;
        let here = Look::at(self, &mut using, &Standing::BEGINNING).await?;
        using.close(ANCHORING).await?;
        let is_foreign = |standing: &&Standing| here.checked.has_not_given(standing);
        let mut firsts = Vec::new();
        if standings.iter().any(|standing| is_foreign(&standing)) {
            let read = highest_there(&using, witnesses).await?;
            for standing in standings.iter().filter(is_foreign) {
                firsts.push(first_unread(&using, standing, read).await?);
            }
            self.raise_incarnation(None, false).await?;
        }
        // After the raise, so that it sees what got another number by it.
        let to = Look::at(self, &mut using, &Standing::BEGINNING).await?;
        let newest = source::newest(&using, &to.to).await?;
        to.settle(&mut using).await?;
        let to = to.to.below(newest.map_or(0, |newest| newest.saturating_add(1)));
        let mut firsts = firsts.into_iter();
        let anchored = standings.iter().map(|standing| {
            let log = LogPlace::default();
            if !is_foreign(&standing) {
                return Standing { log, ..standing.polled() }.position();
            }
            match firsts.next().flatten() {
                None => Standing::at_rest(to.clone(), log).position(),
                Some(first) => {
                    let last = Some(Row { id: first.saturating_sub(1), xid: 0 });
                    let reading = Reading::Range { to: to.clone(), last, then: None };
                    Standing { reading, ..Standing::BEGINNING }.position()
                }
            }
        });
        Ok(anchored.collect())
    }
}

/// The highest id of a witness that is there: whatever has a higher one may have been written here.
async fn highest_there(using: &Using<'_>, witnesses: &[Witness]) -> Result<i64, StoreError> {
    let seen = |witness: &Witness| {
        let row = row_of(&witness.position).filter(|row| row.xid > 0)?;
        Some(Seen { row, commit: witness.commit })
    };
    let mut rows: Vec<_> = witnesses.iter().filter_map(seen).collect();
    let gone = lost(using, &rows).await?;
    rows.retain(|seen| !gone.missing.contains(seen));
    Ok(rows.iter().map(|seen| seen.row.id).max().unwrap_or(i64::MIN))
}

/// The lowest id of a row that `standing` is not past, or above `read`.
async fn first_unread(using: &Using<'_>, standing: &Standing, read: i64) -> Result<Option<i64>, StoreError> {
    const SQL: &str = "SELECT min(e.id)::bigint FROM outbox.entries AS e \
        WHERE e.id > $4 OR NOT pg_visible_in_snapshot(e.xid, $1::text::pg_snapshot) \
        AND NOT (e.id <= $3 AND pg_visible_in_snapshot(e.xid, $2::text::pg_snapshot))";
    let Unread { passed, to, through } = Unread::of(standing);
    let sql = fitted(using.sql(SQL), &[(1, &passed), (2, &to)]);
    let (passed, to) = (passed.to_sql(), to.to_sql());
    let params: [Param<'_>; 4] =
        [(&passed, Type::TEXT), (&to, Type::TEXT), (&through, Type::INT8), (&read, Type::INT8)];
    let row = using.within_long(ANCHORING, using.client().query_typed_one(&sql, &params)).await?;
    row.try_get(0).map_err(store_error(ANCHORING))
}
