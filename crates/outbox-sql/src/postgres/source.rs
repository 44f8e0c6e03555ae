//! Reading committed entries by polling: a snapshot is the cursor.
//!
//! A range is all that one snapshot sees and the one before did not, read by id. Nothing is locked and nobody is waited for:
//! a transaction that is open for an hour, or prepared for days, delays its own entries only. Ids are drawn with the key's
//! head locked, so within a range, and from range to range, the entries of a key come in their order.

use std::cmp::Ordering;

use async_trait::async_trait;
use outbox::{
    ErrorKind, KeyOrder, Page, Partition, PartitionId, Position, Source, StoreError,
    source::{Backlog, Limit},
    store::Registration,
};
use tokio_postgres::types::Type;

use super::{
    PostgresStore,
    failure::store_error,
    position::{self, Snapshot, Standing, fitted},
    store::start,
};

mod backlog;
mod check;
mod extent;
mod flush;
mod inside;
mod pace;
mod page;
mod range;
mod session;
mod unseen;
mod values;

pub(super) use check::lost;
pub(super) use extent::Ranges;
pub(super) use pace::Pace;
pub(super) use range::Look;
pub(super) use session::{Param, Session, Using};
pub(super) use values::Eight;

/// The only partition: the whole table.
pub(super) const PARTITION: &str = "entries";

#[async_trait]
impl Source for PostgresStore {
    fn key_order(&self) -> KeyOrder {
        KeyOrder::Promised
    }

    fn order(&self, left: &Position, right: &Position) -> Ordering {
        position::order(left, right)
    }

    fn passed_by_both(&self, one: &Position, other: &Position) -> Position {
        match (Standing::parse(one), Standing::parse(other)) {
            (Ok(one), Ok(other)) => one.passed_by_both(&other).position(),
            (Err(_), _) => one.clone(),
            (_, Err(_)) => other.clone(),
        }
    }

    fn after_loss(&self, position: &Position, agreed: &Position) -> Position {
        match (Standing::parse(position), position::row_of(agreed)) {
            (Ok(standing), Some(row)) => standing.after_loss(row).position(),
            // Nothing agrees: all that is there is read again.
            (_, None) | (Err(_), Some(_)) => agreed.clone(),
        }
    }

    fn leading_to(&self, from: &Position, end: &Position) -> Position {
        match (Standing::parse(from), Standing::parse(end)) {
            (Ok(from), Ok(end)) => from.leading_to(&end).position(),
            (Err(_), _) | (_, Err(_)) => from.clone(),
        }
    }

    async fn partitions(&self) -> Result<Vec<Partition>, StoreError> {
        Ok(vec![Partition { id: PartitionId::new(PARTITION), parents: Vec::new() }])
    }

    async fn start(&self, partition: &PartitionId, registration: &Registration) -> Result<Position, StoreError> {
        check_partition(partition)?;
        if let Some(fixed) = &registration.start_position {
            return Ok(Position::new(fixed));
        }
        let mut session = self.inner.session().await;
        let mut using = session.begin().await?;
        start::position(&self.inner, &mut using, registration.start).await
    }

    async fn read(&self, partition: &PartitionId, after: &Position, limit: Limit) -> Result<Page, StoreError> {
        check_partition(partition)?;
        let mut session = self.inner.session().await;
        let mut using = session.begin().await?;
        let page = range::read(&self.inner, &mut using, after, limit).await;
        if page.is_err() {
            using.give_up().await;
        }
        if page.as_ref().is_err_and(|error| error.kind() == ErrorKind::HistoryChanged) {
            self.inner.ranges().forget();
        }
        page
    }

    async fn changed(&self) {
        self.inner.pace().wait().await;
    }

    async fn backlog(&self, partition: &PartitionId, after: &Position) -> Result<Backlog, StoreError> {
        check_partition(partition)?;
        let standing = Standing::parse(after)?;
        let mut session = self.inner.session().await;
        backlog::behind(&mut session.begin().await?, &standing).await
    }
}

/// A checkpoint of another source's partition is no position here.
fn check_partition(partition: &PartitionId) -> Result<(), StoreError> {
    if partition.as_str() == PARTITION {
        return Ok(());
    }
    let message = format!("there is no partition `{partition}` in this database, only `{PARTITION}`");
    Err(StoreError::new(ErrorKind::Invalid, message))
}

/// The latest transaction with an entry that `seen` sees.
pub(super) async fn newest(using: &Using<'_>, seen: &Snapshot) -> Result<Option<u64>, StoreError> {
    const LOOKING: &str = "looking for the latest entry";
    const SQL: &str = "SELECT e.xid FROM outbox.entries AS e WHERE pg_visible_in_snapshot(e.xid, $1::text::pg_snapshot) \
         ORDER BY e.xid DESC, e.id DESC LIMIT 1";
    let (sql, seen) = (fitted(using.sql(SQL), &[(1, seen)]), seen.to_sql());
    let row = using.within(LOOKING, using.client().query_typed_opt(&sql, &[(&seen, Type::TEXT)])).await?;
    let xid = row.map(|row| row.try_get::<_, Eight>(0)).transpose().map_err(store_error(LOOKING))?;
    Ok(xid.map(|xid| xid.0.cast_unsigned()))
}

/// The server's answer was not what its functions give.
fn malformed(attempted: &str) -> StoreError {
    let message = format!("{attempted}: the server's answer cannot be read: Outbox needs PostgreSQL 15 or later");
    StoreError::new(ErrorKind::Incompatible, message)
}
